//! The metrics and the log line of a decision.

use std::time::Duration;

use crate::admission::Decision;
use crate::dialect::DIALECTS;
use crate::rules::Mode;
use crate::telemetry::{Counted, Metrics};

/// Counts a decision and logs it: a denial at level info, any other decision at level debug.
pub(super) fn record(endpoint: &'static str, metrics: &Metrics, decision: &Decision<'_>, took: Duration) {
    let request = &decision.request;
    let counted = Counted {
        endpoint,
        operation: operation(&request.operation),
        kind: kind(&request.kind.kind),
        decision: decision.word(),
    };
    metrics.answered(counted, took);
    for judgement in &decision.judgements {
        metrics.found(judgement.finding.rule, judgement.action.name());
    }
    macro_rules! line {
        ($level:ident, $message:literal $(, $name:ident = $value:expr)*) => {
            tracing::$level!(
                endpoint,
                uid = &*request.uid,
                operation = &*request.operation,
                kind = &*request.kind.kind,
                namespace = request.namespace.as_deref().unwrap_or_default(),
                name = request.name.as_deref().unwrap_or_default(),
                user = &*request.user_info.username,
                dry_run = request.dry_run.unwrap_or_default(),
                decision = counted.decision,
                micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
                $($name = $value,)*
                $message
            )
        };
    }
    if decision.allowed {
        line!(debug, "decided", rules = rules(decision, None));
    } else {
        let why = decision.unreadable.as_deref().unwrap_or_default();
        line!(info, "denied", rules = rules(decision, Some(Mode::Deny)), why = why);
    }
}

/// Lists the findings of an action, or all, as `rule at path`. At most 20 are listed.
fn rules(decision: &Decision<'_>, action: Option<Mode>) -> String {
    let judgements =
        decision.judgements.iter().filter(|judgement| action.is_none_or(|action| judgement.action == action));
    let found: Vec<String> = judgements
        .take(20)
        .map(|judgement| format!("{} at {}", judgement.finding.rule, judgement.finding.path))
        .collect();
    found.join(", ")
}

/// Returns the operation as a label that has few values.
fn operation(operation: &str) -> &'static str {
    match operation {
        "CREATE" => "create",
        "UPDATE" => "update",
        "DELETE" => "delete",
        "CONNECT" => "connect",
        _ => "other",
    }
}

/// Returns the kind as a label: a kind that a dialect reads, or `other`.
fn kind(kind: &str) -> &'static str {
    let known = DIALECTS.iter().flat_map(|dialect| dialect.kinds()).find(|known| known.kind == kind);
    known.map_or("other", |known| known.kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_have_few_values() {
        assert_eq!((kind("NetworkPolicy"), kind("Anything")), ("NetworkPolicy", "other"));
        assert_eq!((operation("CREATE"), operation("anything")), ("create", "other"));
    }
}
