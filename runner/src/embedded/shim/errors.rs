//! What libcontainer has to say about its failures it says by `tracing` and nowhere else: it goes to the shim's
//! complaints, also from the processes that it makes, whose standard error is the replica's by then.

use std::{
    fmt::{Debug, Write as _},
    fs::File,
    io::Write as _,
    os::fd::AsFd,
};

use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};

/// Writes errors to where standard error was when this was made.
struct Errors(File);

/// A line of fields and values.
struct Words(String);

/// Has errors written down from now on.
pub(super) fn keep() {
    if let Ok(complaints) = std::io::stderr().as_fd().try_clone_to_owned() {
        tracing::subscriber::set_global_default(Errors(complaints.into())).ok();
    }
}

impl Visit for Words {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, " {}={value:?}", field.name()).ok();
    }
}

impl Subscriber for Errors {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::ERROR && metadata.is_event()
    }

    fn event(&self, event: &Event<'_>) {
        let mut words = Words(event.metadata().target().to_owned());
        event.record(&mut words);
        words.0.push('\n');
        drop((&self.0).write_all(words.0.as_bytes()));
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}
