//! Who wakes a service and who does not, over real sockets.

mod onlookers;
mod rates;
mod waiting;
