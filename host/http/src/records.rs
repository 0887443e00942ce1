//! The last requests' records, as many as the operator lets be kept.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use aio_core::RequestRecord;

/// A bounded row of records, old to new.
#[derive(Debug)]
pub(crate) struct Records {
    kept: Mutex<VecDeque<Arc<RequestRecord>>>,
    most: usize,
}

impl Records {
    pub(crate) fn new(most: usize) -> Self {
        Self { kept: Mutex::default(), most }
    }

    /// Keeps a record; the oldest goes where there is no more room.
    pub(crate) fn keep(&self, record: &RequestRecord) {
        if self.most == 0 {
            return;
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == self.most {
            kept.pop_front();
        }
        kept.push_back(Arc::new(record.clone()));
    }

    /// The record of a request.
    pub(crate) fn get(&self, request: u64) -> Option<Arc<RequestRecord>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().find(|record| record.request == request).cloned()
    }

    /// The last ones, new to old.
    pub(crate) fn last(&self, most: usize) -> Vec<Arc<RequestRecord>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().rev().take(most).cloned().collect()
    }
}
