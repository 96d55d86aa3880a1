//! The data that the scripts of the page read: the connections, and the names and sizes of their ends.

use std::collections::HashMap;

use anyhow::Result;
use serde::Serialize;

use crate::audit::{Matrix, Report};

#[derive(Serialize)]
struct Data<'a> {
    /// The namespaces of the matrix, in its order.
    namespaces: Vec<Node<'a>>,
    workloads: Vec<Node<'a>>,
    matrix: &'a Matrix,
}

/// A namespace or a workload as an end of connections.
#[derive(Serialize)]
struct Node<'a> {
    name: &'a str,
    namespace: &'a str,
    pods: usize,
}

/// Returns the data as JSON that can stand in a `script` element.
pub(super) fn json(report: &Report) -> Result<String> {
    let pods: HashMap<&str, usize> = report.namespaces.iter().map(|state| (state.name.as_str(), state.pods)).collect();
    let namespaces = report.matrix.namespaces.iter().map(|name| {
        let pods = pods.get(name.as_str()).copied().unwrap_or_default();
        Node { name, namespace: name, pods }
    });
    let workloads = report.workloads.iter().filter(|workload| !workload.host_network);
    let workloads =
        workloads.map(|workload| Node { name: &workload.id, namespace: &workload.namespace, pods: workload.pods });
    let data = Data { namespaces: namespaces.collect(), workloads: workloads.collect(), matrix: &report.matrix };
    // A `<` can only stand in a string. Written as an escape, it cannot end the element.
    Ok(serde_json::to_string(&data)?.replace('<', "\\u003c"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_cannot_end_its_element() {
        let name = "</script><!--<script>";
        let mut report = Report::default();
        report.matrix.namespaces = vec![name.to_owned()];
        let json = json(&report).unwrap();
        assert!(!json.contains('<'), "{json}");
        let data: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(data["matrix"]["namespaces"][0], name);
    }
}
