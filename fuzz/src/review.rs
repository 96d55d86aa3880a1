//! Any bytes as the body of a review.

use crate::answers::{Endpoint, ask};
use crate::surroundings;

/// Sends the bytes to both endpoints. The first byte chooses the surroundings.
pub fn run(data: &[u8]) {
    let Some((choice, body)) = data.split_first() else { return };
    let knowledge = surroundings::choose(*choice, Vec::new());
    for endpoint in [Endpoint::Mutate, Endpoint::Validate] {
        ask(&knowledge, endpoint, body);
    }
}
