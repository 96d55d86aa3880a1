//! The text output of `portcullis trace`: the answer first, then the policies, then what to do.

use std::io::Write;

use anyhow::Result;

use super::Traced;
use crate::cli::{BOLD, FAINT, GREEN, RED, YELLOW};
use crate::trace::{Flow, SideOfFlow, Verdict};

pub(super) fn print(traced: &Traced) -> Result<()> {
    let mut out = anstream::stdout().lock();
    for flow in &traced.flows {
        print_flow(&mut out, flow)?;
    }
    for (position, repair) in traced.repairs.iter().enumerate() {
        let name = if position == 0 { "repair" } else { "or" };
        writeln!(out, "{BOLD}{name}{BOLD:#}: {}", repair.summary)?;
        for command in &repair.commands {
            writeln!(out, "  {command}")?;
        }
        for manifest in &repair.manifests {
            writeln!(out, "  kubectl apply --filename=- <<'EOF'\n{manifest:#}\nEOF")?;
        }
        match repair.also_opens.as_deref() {
            Some([]) => writeln!(out, "  {FAINT}opens nothing else between the known pods{FAINT:#}")?,
            Some(others) => {
                writeln!(out, "  {FAINT}also opens:{FAINT:#}")?;
                for other in others {
                    writeln!(out, "    {other}")?;
                }
            }
            None => {}
        }
        writeln!(out)?;
    }
    for missing in &traced.missing {
        writeln!(out, "{YELLOW}not read{YELLOW:#}: {missing}")?;
    }
    Ok(())
}

fn print_flow(out: &mut impl Write, flow: &Flow) -> Result<()> {
    let style = match flow.verdict {
        Verdict::Allowed => GREEN,
        Verdict::Undecided => YELLOW,
        Verdict::Blocked => RED,
    };
    let word = flow.verdict.name();
    writeln!(out, "{style}{word}{style:#}: {} to {} on {}", flow.from, flow.to, flow.ports)?;
    if let Some(note) = flow.note {
        writeln!(out, "  {note}")?;
    }
    for (name, side) in [("egress of", &flow.egress), ("ingress of", &flow.ingress)] {
        if let Some(side) = side {
            print_side(out, name, side)?;
        }
    }
    if let Some(attempt) = &flow.attempt {
        writeln!(out, "  {FAINT}try it:{FAINT:#} {attempt}")?;
        writeln!(out, "  {FAINT}  a timeout means that a policy drops it; \"refused\" means that it arrives{FAINT:#}")?;
    }
    if let Some(inspect) = flow.inspect {
        writeln!(out, "  {FAINT}on the node:{FAINT:#} {inspect}")?;
    }
    writeln!(out)?;
    Ok(())
}

fn print_side(out: &mut impl Write, name: &str, side: &SideOfFlow) -> Result<()> {
    let word = side.verdict.name();
    writeln!(out, "  {name} {}: {BOLD}{word}{BOLD:#}, {}", side.pods, side.reason)?;
    for line in &side.policies {
        let mut facts = Vec::new();
        if line.tier != "default" {
            facts.push(format!("tier {}", line.tier));
        }
        if line.isolates {
            facts.push("isolates".to_owned());
        }
        if !line.rules.is_empty() {
            facts.push(format!("decides by {}", line.rules.join(", ")));
        }
        let facts = if facts.is_empty() { String::new() } else { format!(" ({})", facts.join(", ")) };
        writeln!(out, "    {FAINT}selected by{FAINT:#} {}{facts}", line.policy)?;
    }
    if let Some(closest) = &side.closest {
        writeln!(out, "    {FAINT}closest:{FAINT:#} {closest}")?;
    }
    for assumed in &side.assumed {
        writeln!(out, "    {FAINT}unknown:{FAINT:#} {assumed}")?;
    }
    Ok(())
}
