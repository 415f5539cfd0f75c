//! What is counted apart: requests of one phase with one class of answer, cold or warm. `[P]`

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Answer, Spread};

/// What kind of an end a request had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// Below 300; for gRPC, status 0.
    Success,
    /// 300 to 399.
    Redirect,
    /// 400 to 499.
    Client,
    /// 500 and above; for gRPC, any status but 0.
    Server,
    /// No answer.
    Failed,
    /// Not even sent.
    Unsent,
}

/// Which requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Key {
    /// The phase's number, from 0.
    pub phase: usize,
    /// How they ended.
    pub class: Class,
    /// Whether they waited for a replica to start.
    pub cold: bool,
}

/// Their times.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// From the planned instant to the end of the answer.
    pub response: Spread,
    /// From being sent (or beginning to open a connection) to the end of the answer.
    pub service: Spread,
    /// From the planned instant to being sent.
    pub lag: Spread,
}

impl Class {
    /// Of an answer.
    #[must_use]
    pub fn of(answer: Answer) -> Self {
        match answer {
            Answer::Status { grpc: Some(1..), .. } => Self::Server,
            Answer::Status { code: ..300, .. } => Self::Success,
            Answer::Status { code: 300..400, .. } => Self::Redirect,
            Answer::Status { code: 400..500, .. } => Self::Client,
            Answer::Status { code: 500.., .. } => Self::Server,
            Answer::Failed(_) => Self::Failed,
        }
    }

    /// Whether it counts as an error.
    #[must_use]
    pub fn is_error(self) -> bool {
        match self {
            Self::Success | Self::Redirect => false,
            Self::Client | Self::Server | Self::Failed | Self::Unsent => true,
        }
    }

    /// As people read it.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Success => "2xx",
            Self::Redirect => "3xx",
            Self::Client => "4xx",
            Self::Server => "5xx",
            Self::Failed => "failed",
            Self::Unsent => "unsent",
        }
    }
}

impl Cell {
    pub(super) fn add(&mut self, response: Duration, service: Duration, lag: Duration) {
        self.response.add(response);
        self.service.add(service);
        self.lag.add(lag);
    }

    pub(super) fn unsent(&mut self, waited: Duration) {
        self.response.add(waited);
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.response.merge(&other.response);
        self.service.merge(&other.service);
        self.lag.merge(&other.lag);
    }
}

/// Keys and cells as a list of flat rows.
pub(super) mod rows {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{Cell, Key};

    #[derive(Serialize, Deserialize)]
    struct Row<K, C> {
        #[serde(flatten)]
        key: K,
        #[serde(flatten)]
        cell: C,
    }

    pub(in crate::record) fn serialize<S: Serializer>(
        cells: &[(Key, Cell)],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(cells.iter().map(|(key, cell)| Row { key, cell }))
    }

    pub(in crate::record) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<(Key, Cell)>, D::Error> {
        let rows = Vec::<Row<Key, Cell>>::deserialize(deserializer)?;
        Ok(rows.into_iter().map(|row| (row.key, row.cell)).collect())
    }
}
