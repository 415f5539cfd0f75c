//! HTTP/1.1 towards replicas, spoken in the task of the client's own connection: no task for a connection, no channel
//! between the two, and no copy of a head. [`Home::send`] takes a kept connection or opens one, writes the head (with the
//! first bytes of the body, where they are there), and reads until the response's head is whole; the body is then read by
//! whoever polls the [`Reply`], which goes on with the upload meanwhile and takes the connection home at its end.
//!
//! The bytes are [`http1`](crate::http1)'s. Absent: retries, HTTP/2, and what fields mean.

mod connection;
mod home;
mod reply;
mod upload;

pub(crate) use self::{
    home::Home,
    reply::{Reply, Tunnel},
};
