//! The JUnit output of `portcullis test`: one test case for each contract.

use std::io::Write as _;

use anyhow::Result;

use super::{Tested, Verdict};
use crate::cli::report::escaped_for_xml;

pub(super) fn print(tested: &Tested) -> Result<()> {
    let count = |verdict| tested.contracts.iter().filter(|outcome| outcome.result == verdict).count();
    let errors = count(Verdict::Undecided) + tested.missing.len();
    let tests = tested.contracts.len() + tested.missing.len();
    let counts = format!("tests=\"{tests}\" failures=\"{}\" errors=\"{errors}\"", count(Verdict::Broken));
    let mut out = std::io::stdout().lock();
    writeln!(out, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>")?;
    writeln!(out, "<testsuites name=\"portcullis test\" {counts}>")?;
    writeln!(out, "  <testsuite name=\"contracts\" {counts}>")?;
    for outcome in &tested.contracts {
        let name = escaped_for_xml(&outcome.name);
        write!(out, "    <testcase name=\"{name}\" classname=\"contracts\"")?;
        let element = match outcome.result {
            Verdict::Holds => {
                writeln!(out, "/>")?;
                continue;
            }
            Verdict::Broken => "failure",
            Verdict::Undecided => "error",
        };
        let message = escaped_for_xml(outcome.detail.as_deref().unwrap_or_default());
        writeln!(out, ">\n      <{element} message=\"{message}\">{}", escaped_for_xml(&outcome.statement))?;
        for because in &outcome.because {
            writeln!(out, "because {}", escaped_for_xml(because))?;
        }
        for (name, text) in [("reason", &outcome.reason), ("owner", &outcome.owner)] {
            if !text.is_empty() {
                writeln!(out, "{name}: {}", escaped_for_xml(text))?;
            }
        }
        writeln!(out, "</{element}>\n    </testcase>")?;
    }
    for missing in &tested.missing {
        let missing = escaped_for_xml(missing);
        writeln!(
            out,
            "    <testcase name=\"{missing}\" classname=\"manifests\">\n      <error message=\"{missing}\"/>"
        )?;
        writeln!(out, "    </testcase>")?;
    }
    writeln!(out, "  </testsuite>\n</testsuites>")?;
    Ok(())
}
