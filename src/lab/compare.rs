//! `tidegate lab compare`: two runs, before and after a change.
//!
//! Two runs of one machine drift apart without any change. So a subject is also seen relative to a reference that both
//! runs measured, round by round: what changed for both is no change.

use std::fmt::{self, Display, Formatter};

use super::report::findings::{Calls, Findings, Measure, trust};
use super::report::verdict::Outcome;
use super::report::{counted, ratio, wrap};
use super::results::{Kind, Results, Subject, WorkloadInfo};
use super::statistics::Summary;

/// What differs between two runs.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// Why the two may not be comparable, in words.
    pub warnings: Vec<String>,
    /// One for each subject and workload that both have figures of.
    pub changes: Vec<Change>,
    /// Cells that only one run has figures of, in words.
    pub missing: Vec<String>,
}

/// What became of a subject's cost with one workload.
#[derive(Clone, Debug)]
pub struct Change {
    /// The workload's name.
    pub workload: String,
    /// The subject's name.
    pub subject: String,
    /// By what the workload is judged: `CPU per request`.
    pub measure: String,
    /// The cost after as a multiple of the cost before; its interval has the uncertainty of both.
    pub absolute: Summary,
    /// The reference's name, and the same after dividing by its cost in each round.
    pub relative: Option<(String, Summary)>,
    /// What calls are counted for: `message`.
    pub message: &'static str,
    /// System calls for that, by name: before and after, where they differ by more than 0.02.
    pub calls: Vec<(String, [f64; 2])>,
}

impl Change {
    /// What is to be believed: the relative change if there is one.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        Outcome::of(self.relative.as_ref().map_or(&self.absolute, |(_, relative)| relative))
    }
}

/// Compares `after` with `before`.
#[must_use]
pub fn compare(before: &Results, after: &Results) -> Comparison {
    let runs = [Findings::of(before), Findings::of(after)];
    let mut comparison =
        Comparison { warnings: warnings(before, after), changes: Vec::new(), missing: Vec::new() };
    for info in &before.workloads {
        if after.workload(&info.name).is_none() {
            comparison.missing.push(format!("{} was measured before only", info.name));
            continue;
        }
        for subject in &before.subjects {
            let costs =
                runs.each_ref().map(|run| run.figures(&subject.name, &info.name).and_then(|it| it.cost));
            match costs {
                [Some(old), Some(new)] => comparison.changes.push(change(&runs, info, subject, [old, new])),
                [Some(_), None] => comparison.missing.push(only("before", subject, info)),
                [None, Some(_)] => comparison.missing.push(only("after", subject, info)),
                [None, None] => {}
            }
        }
    }
    comparison
}

fn only(when: &str, subject: &Subject, info: &WorkloadInfo) -> String {
    format!("{} with {} has figures {when} only", subject.name, info.name)
}

fn change(runs: &[Findings; 2], info: &WorkloadInfo, subject: &Subject, [old, new]: [Summary; 2]) -> Change {
    let reference = reference(runs, info, subject);
    let relative = reference.and_then(|reference| {
        let to_reference = |run: &Findings| run.ratio(info, &subject.name, &reference.name);
        Some((reference.name.clone(), quotient(&to_reference(&runs[1])?, &to_reference(&runs[0])?)))
    });
    let calls = runs.each_ref().map(|run| run.figures(&subject.name, &info.name)?.calls.as_ref());
    Change {
        workload: info.name.clone(),
        subject: subject.name.clone(),
        measure: Measure::of(info.work).name(info.unit),
        absolute: quotient(&new, &old),
        relative,
        message: info.unit.message().0,
        calls: if let [Some(old), Some(new)] = calls { differing(old, new) } else { Vec::new() },
    }
}

/// The first peer that both runs have figures of, or else `direct`: neither changes with this program.
fn reference<'a>(runs: &[Findings<'a>; 2], info: &WorkloadInfo, subject: &Subject) -> Option<&'a Subject> {
    let in_both = |it: &&Subject| {
        it.name != subject.name && runs.iter().all(|run| run.figures(&it.name, &info.name).is_some())
    };
    let of_kind = |kind| runs[0].subjects(kind).find(in_both);
    of_kind(Kind::Peer).or_else(|| of_kind(Kind::Direct))
}

/// One over the other, where both are uncertain and neither knows of the other: their distances to the ends of their
/// intervals, as logarithms, add up like the sides of a right angle.
fn quotient(over: &Summary, under: &Summary) -> Summary {
    let median = over.median / under.median;
    let off = |one: f64, other: f64| one.ln().hypot(other.ln()).exp();
    let interval = [
        median / off(over.median / over.interval[0], under.interval[1] / under.median),
        median * off(over.interval[1] / over.median, under.median / under.interval[0]),
    ];
    let range = [over.range[0] / under.range[1], over.range[1] / under.range[0]];
    Summary { median, interval, range, rounds: over.rounds.min(under.rounds) }
}

fn differing(old: &Calls, new: &Calls) -> Vec<(String, [f64; 2])> {
    let of = |calls: &Calls, name: &str| calls.by_name.get(name).copied().unwrap_or(0.0);
    let differences = new.differences(old).into_iter();
    differences.map(|(name, _)| (name.clone(), [of(old, &name), of(new, &name)])).collect()
}

/// What makes two runs hard to compare.
fn warnings(before: &Results, after: &Results) -> Vec<String> {
    let [old, new] = [&before.about, &after.about];
    let mut pairs = vec![
        ("the processor".to_owned(), old.processor.clone(), new.processor.clone()),
        ("the kernel".to_owned(), old.kernel.clone(), new.kernel.clone()),
        ("the length of a window".to_owned(), format!("{} s", old.window), format!("{} s", new.window)),
        ("the number of rounds".to_owned(), old.rounds.to_string(), new.rounds.to_string()),
        ("--quick".to_owned(), old.quick.to_string(), new.quick.to_string()),
    ];
    for (name, value) in &old.facts {
        let other = new.facts.iter().find(|(it, _)| it == name);
        pairs.extend(other.map(|(_, other)| (name.clone(), value.clone(), other.clone())));
    }
    for info in &before.workloads {
        let connections = |info: &WorkloadInfo| info.connections.to_string();
        let what = format!("the number of connections of {}", info.name);
        pairs.extend(after.workload(&info.name).map(|other| (what, connections(info), connections(other))));
    }
    let peers = before.subjects.iter().filter(|subject| subject.kind == Kind::Peer);
    let peers: Vec<_> = peers.filter_map(|peer| Some((peer, after.subject(&peer.name)?))).collect();
    for (peer, other) in &peers {
        pairs.push((format!("the version of {}", peer.name), peer.version.clone(), other.version.clone()));
    }
    let differing = pairs.into_iter().filter(|(_, old, new)| old != new);
    let mut warnings: Vec<String> =
        differing.map(|(what, old, new)| format!("{what} differs: {old} before, {new} after")).collect();
    let configured = peers.iter().filter(|(peer, other)| peer.configuration != other.configuration);
    warnings.extend(configured.map(|(peer, _)| format!("the configuration of {} differs", peer.name)));
    let interrupted = [("before", old), ("after", new)].into_iter().filter(|(_, about)| about.interrupted);
    warnings.extend(interrupted.map(|(when, _)| format!("the run {when} was interrupted")));
    warnings
}

impl Display for Comparison {
    /// In at most 110 columns, each line ended: the warnings, then the changes, those that are shown first.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        for warning in &self.warnings {
            wrap(&mut text, "Warning: ", warning);
        }
        let [shown, others]: [Vec<&Change>; 2] = [true, false].map(|shown| {
            let is_shown =
                |change: &&Change| matches!(change.outcome(), Outcome::Less | Outcome::More) == shown;
            self.changes.iter().filter(is_shown).collect()
        });
        if self.changes.is_empty() {
            text += "The two runs have no subject and workload in common, so there is nothing to compare.\n";
        } else if shown.is_empty() {
            let compared = counted(self.changes.len(), "comparison");
            text += &format!("No difference in cost that these rounds can show, in {compared}.\n");
        } else {
            text += "Differences in cost:\n";
        }
        shown.iter().for_each(|change| say(&mut text, change));
        if !others.is_empty() && !shown.is_empty() {
            text += "No difference shown:\n";
        }
        others.iter().for_each(|change| say(&mut text, change));
        for missing in &self.missing {
            wrap(&mut text, "Not compared: ", missing);
        }
        f.write_str(&text)
    }
}

fn say(text: &mut String, change: &Change) {
    let times =
        |summary: &Summary| format!("{} of before ({})", ratio(summary.median), trust(summary, ratio));
    let words = match change.outcome() {
        Outcome::Less => "costs less",
        Outcome::More => "costs more",
        Outcome::TooFew => "too few rounds to say",
        _ => "no difference shown",
    };
    let mut said = format!("{words}: {} {}", change.measure, times(&change.absolute));
    if let Some((reference, relative)) = &change.relative {
        said += &format!("; relative to {reference} {}", times(relative));
    }
    wrap(text, &format!("  {}, {}: ", change.workload, change.subject), &said);
    for (name, [old, new]) in &change.calls {
        let more = if new > old { "more" } else { "fewer" };
        let by = (new - old).abs();
        let calls = format!("{by:.2} {more} {name} a {}: {old:.2} before, {new:.2} after", change.message);
        wrap(text, "    ", &calls);
    }
}
