//! The JUnit output of `portcullis test`: one test case for each contract.

use std::io::Write as _;

use anyhow::Result;

use super::Tested;
use crate::cli::report::escaped_for_xml;
use crate::contract::Verdict;

pub(super) fn print(tested: &Tested) -> Result<()> {
    let count = |verdict| tested.contracts.iter().filter(|state| state.result == verdict).count();
    let errors = count(Verdict::Undecided) + tested.missing.len();
    let tests = tested.contracts.len() + tested.missing.len();
    let counts = format!("tests=\"{tests}\" failures=\"{}\" errors=\"{errors}\"", count(Verdict::Broken));
    let mut out = std::io::stdout().lock();
    writeln!(out, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>")?;
    writeln!(out, "<testsuites name=\"portcullis test\" {counts}>")?;
    writeln!(out, "  <testsuite name=\"contracts\" {counts}>")?;
    for state in &tested.contracts {
        let name = escaped_for_xml(&state.name);
        write!(out, "    <testcase name=\"{name}\" classname=\"contracts\"")?;
        let element = match state.result {
            Verdict::Holds if state.notes.is_empty() => {
                writeln!(out, "/>")?;
                continue;
            }
            Verdict::Holds => {
                let notes = escaped_for_xml(&state.notes.join("\n"));
                writeln!(out, ">\n      <system-out>{notes}</system-out>\n    </testcase>")?;
                continue;
            }
            Verdict::Broken => "failure",
            Verdict::Undecided => "error",
        };
        let message = escaped_for_xml(state.detail.as_deref().unwrap_or_default());
        writeln!(out, ">\n      <{element} message=\"{message}\">{}", escaped_for_xml(&state.statement))?;
        for because in &state.because {
            writeln!(out, "because {}", escaped_for_xml(because))?;
        }
        for (name, text) in [("reason", &state.reason), ("owner", &state.owner)] {
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
