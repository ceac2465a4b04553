//! What the figures mean, in sentences.

use super::findings::{Calls, ENOUGH_ROUNDS, Findings, Measure, Standing, is_shown, trust};
use super::words::{capital, counted, ratio};
use crate::config::EngineKind;
use crate::lab::results::{Kind, Subject, WorkloadInfo};
use crate::lab::statistics::Summary;
use crate::lab::workload::Unit;

/// The peers that are asked about by name.
const INCUMBENTS: [(&str, &str); 3] = [("haproxy", "HAProxy"), ("nginx", "nginx"), ("envoy", "Envoy")];

/// The workload whose system calls are an example for the others, if it is part of the run.
const EXAMPLE: &str = "pp64";

/// Differences of system calls that a sentence names.
const NAMED_CALLS: usize = 4;

/// How one subject's cost compares with another's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is shown to cost less.
    Less,
    /// It is shown to cost more.
    More,
    /// These rounds show no difference.
    Same,
    /// Fewer than three rounds show nothing.
    TooFew,
    /// One of the two failed, in all rounds.
    Failed,
}

impl Outcome {
    /// Of a ratio of costs.
    #[must_use]
    pub fn of(ratio: &Summary) -> Self {
        match ratio {
            few if few.rounds < 3 => Self::TooFew,
            shown if is_shown(shown) && shown.median < 1.0 => Self::Less,
            shown if is_shown(shown) => Self::More,
            _ => Self::Same,
        }
    }
}

/// What is said of one workload.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// The workload's name.
    pub workload: String,
    /// Who is compared.
    pub subject: String,
    /// With whom.
    pub reference: String,
    /// How they compare.
    pub outcome: Outcome,
    /// The ratio of their costs; `None` if one failed.
    pub ratio: Option<Summary>,
    /// The verdict.
    pub sentence: String,
    /// The difference in system calls, where both are known.
    pub why: Option<String>,
}

/// A question and its answer.
#[derive(Clone, Debug)]
pub struct Question {
    /// The question.
    pub title: String,
    /// The answer in one sentence.
    pub headline: String,
    /// The difference in system calls with one workload, for an example.
    pub why: Option<String>,
    /// The answer for each workload.
    pub verdicts: Vec<Verdict>,
    /// Whether the answer for each workload is to be in view, too.
    pub in_full: bool,
}

impl Question {
    fn new(title: String, headline: String, verdicts: Vec<Verdict>) -> Self {
        let explained = || verdicts.iter().filter(|verdict| verdict.why.is_some());
        let example = explained().find(|verdict| verdict.workload == EXAMPLE).or_else(|| explained().next());
        let why =
            example.and_then(|verdict| Some(format!("With {}, {}", verdict.workload, verdict.why.as_ref()?)));
        Self { title, headline, why, verdicts, in_full: false }
    }

    fn in_full(self) -> Self {
        Self { in_full: true, ..self }
    }
}

/// All questions, the most important first.
#[must_use]
pub fn questions(findings: &Findings) -> Vec<Question> {
    let mut questions = vec![readiness_or_completion(findings)];
    questions.extend(INCUMBENTS.iter().filter_map(|incumbent| against(findings, *incumbent)));
    questions.extend(findings.subjects(Kind::Build).filter_map(|build| against_the_engine(findings, build)));
    questions
}

/// The first engine of each model, one against the other.
fn readiness_or_completion(findings: &Findings) -> Question {
    let of_model = |model| {
        let has_model = |engine: &&Subject| engine.model.as_deref() == Some(model);
        findings.subjects(Kind::Engine).find(has_model)
    };
    let title = "Readiness or completion?".to_owned();
    let (Some(readiness), Some(completion)) = (of_model("readiness"), of_model("completion")) else {
        let headline = "This run has no engine of each, so it gives no answer.".to_owned();
        return Question::new(title, headline, Vec::new());
    };
    if let Some(absent) = [readiness, completion].iter().find(|engine| engine.absent.is_some()) {
        let why = absent.absent.as_deref().unwrap_or_default();
        let headline = format!("No answer: {} was not measured ({why}).", absent.name);
        return Question::new(title, headline, Vec::new());
    }
    let verdicts = verdicts(findings, &readiness.name, |_| Some(&completion.name));
    let who = format!("{} (completion)", completion.name);
    let headline = headline(&who, &format!("{} (readiness)", readiness.name), &verdicts);
    Question::new(title, headline, verdicts).in_full()
}

/// The best engine of each workload against one peer; `None` if the peer is not part of the run.
fn against(findings: &Findings, (name, title): (&str, &str)) -> Option<Question> {
    let incumbent = findings.results.subject(name)?;
    let title_of_question = format!("Against {title}");
    if let Some(why) = &incumbent.absent {
        let headline = format!("No answer: {title} was not measured ({why}).");
        return Some(Question::new(title_of_question, headline, Vec::new()));
    }
    let verdicts = verdicts(findings, name, |info| best_engine(findings, info));
    let headline = headline("the best engine of each", title, &verdicts);
    Some(Question::new(title_of_question, headline, verdicts))
}

/// The engine with the lowest cost. One that failed a round is the best of none.
fn best_engine<'a>(findings: &Findings<'a>, info: &WorkloadInfo) -> Option<&'a str> {
    let cost = |engine: &Subject| {
        let figures = findings.figures(&engine.name, &info.name).filter(|figures| figures.failures == 0)?;
        Some(figures.cost?.median)
    };
    let engines = findings.subjects(Kind::Engine).filter_map(|engine| Some((&*engine.name, cost(engine)?)));
    engines.min_by(|(_, one), (_, other)| one.total_cmp(other)).map(|(name, _)| name)
}

/// A build, which runs the default engine, against that of this program.
fn against_the_engine(findings: &Findings, build: &Subject) -> Option<Question> {
    let engine = findings.results.subject(EngineKind::Auto.resolved().name())?;
    let title = format!("The build {} against {}", build.name, engine.name);
    if let Some(why) = &build.absent {
        let headline = format!("No answer: {} was not measured ({why}).", build.name);
        return Some(Question::new(title, headline, Vec::new()));
    }
    let mut verdicts = verdicts(findings, &engine.name, |_| Some(&build.name));
    for verdict in &mut verdicts {
        let info = findings.results.workload(&verdict.workload)?;
        verdict.why = calls(findings, info, &build.name, &engine.name)
            .map(|[ours, theirs]| extra_calls(&build.name, &ours, &theirs, info.unit));
    }
    let headline = headline(&build.name, &engine.name, &verdicts);
    Some(Question::new(title, headline, verdicts).in_full())
}

/// A verdict for each workload that both were measured with, or in which one failed.
fn verdicts<'a>(
    findings: &'a Findings,
    reference: &str,
    subject: impl Fn(&WorkloadInfo) -> Option<&'a str>,
) -> Vec<Verdict> {
    let of_one = |info| verdict(findings, info, subject(info)?, reference);
    findings.results.workloads.iter().filter_map(of_one).collect()
}

/// The system calls of two, where the cost is one of doing something.
fn calls(findings: &Findings, info: &WorkloadInfo, one: &str, other: &str) -> Option<[Calls; 2]> {
    findings.calls(info, one, other).filter(|_| Measure::of(info.work) != Measure::Memory)
}

fn verdict(findings: &Findings, info: &WorkloadInfo, subject: &str, reference: &str) -> Option<Verdict> {
    let title = capital(&info.title);
    let of = |outcome, ratio, sentence| Verdict {
        workload: info.name.clone(),
        subject: subject.to_owned(),
        reference: reference.to_owned(),
        outcome,
        ratio,
        sentence,
        why: calls(findings, info, subject, reference)
            .map(|[ours, theirs]| difference_in_calls((reference, &theirs), (subject, &ours), info.unit)),
    };
    let failed = |name: &&str| matches!(findings.standing(name, &info.name), Standing::Failed(_));
    if let Some(name) = [subject, reference].into_iter().find(failed) {
        return Some(of(Outcome::Failed, None, format!("{title}: {name} failed")));
    }
    let paired = findings.ratio(info, subject, reference)?;
    let mut sentence = format!("{title}: {}", compared(&paired, subject, reference, info));
    for name in [subject, reference] {
        let failures = findings.figures(name, &info.name).map_or(0, |figures| figures.failures);
        if failures > 0 {
            sentence += &format!("; {name} failed in {}", counted(failures, "more round"));
        }
    }
    Some(of(Outcome::of(&paired), Some(paired), sentence))
}

/// What a ratio says: `io_uring takes 0.62 of mio's CPU per request (95 %: 0.58 to 0.66, 6 rounds)`.
fn compared(paired: &Summary, subject: &str, reference: &str, info: &WorkloadInfo) -> String {
    let measure = Measure::of(info.work).name(info.unit);
    let (median, trusted) = (ratio(paired.median), trust(paired, ratio));
    match Outcome::of(paired) {
        Outcome::TooFew => format!(
            "too few rounds to say anything; {subject} took {median} of {reference}'s {measure} ({trusted})"
        ),
        Outcome::Same => {
            let few = if paired.rounds < ENOUGH_ROUNDS && paired.differs_from(1.0) {
                ", and so few rounds show differences above a quarter only"
            } else {
                ""
            };
            format!(
                "no difference that these rounds can show between {subject} and {reference} in {measure} \
                 ({median}; {trusted}{few})"
            )
        }
        _ => format!("{subject} takes {median} of {reference}'s {measure} ({trusted})"),
    }
}

/// The answer in one sentence: on how many workloads it costs less, more, the same, and by how much.
fn headline(who: &str, than: &str, verdicts: &[Verdict]) -> String {
    let of = |outcome| verdicts.iter().filter(move |verdict| verdict.outcome == outcome);
    let [less, more, same, failed, few] =
        [Outcome::Less, Outcome::More, Outcome::Same, Outcome::Failed, Outcome::TooFew]
            .map(|outcome| of(outcome).count());
    let total = counted(verdicts.len() - few, "workload");
    match (less + more + same, failed) {
        (0, 0) => {
            return "No answer yet: a verdict needs three rounds of both, and six for small differences."
                .to_owned();
        }
        (0, _) => {
            return format!("No answer: one of the two failed on {total}, and no other has three rounds.");
        }
        _ => {}
    }
    let by = |outcome| {
        let ratios = Summary::of(of(outcome).filter_map(|verdict| Some(verdict.ratio?.median)));
        let [least, greatest] = ratios.map_or_else(Default::default, |ratios| ratios.range.map(ratio));
        if least == greatest { format!("{least} of it") } else { format!("{least} to {greatest} of it") }
    };
    let mut clauses = Vec::new();
    if less > 0 {
        clauses.push(format!("costs less than {than} on {less} ({})", by(Outcome::Less)));
    }
    if more > 0 {
        let more_than = if less > 0 { "more".to_owned() } else { format!("costs more than {than}") };
        clauses.push(format!("{more_than} on {more} ({})", by(Outcome::More)));
    }
    if same > 0 {
        clauses.push(if clauses.is_empty() {
            format!("shows no difference from {than} on {same}")
        } else {
            format!("no difference is shown on {same}")
        });
    }
    if failed > 0 {
        clauses.push(format!("one of the two failed on {failed}"));
    }
    let few_rounds = |verdict: &Verdict| verdict.ratio.is_some_and(|ratio| ratio.rounds < ENOUGH_ROUNDS);
    let hint = if of(Outcome::Same).any(few_rounds) {
        " Fewer than six rounds show differences above a quarter only."
    } else {
        ""
    };
    format!("Of {total}, {who} {}.{hint}", clauses.join(", "))
}

/// The reference first: `mio makes 3.02 calls a message, io_uring 1.04: 1.00 fewer recvfrom, …`.
fn difference_in_calls(reference: (&str, &Calls), subject: (&str, &Calls), unit: Unit) -> String {
    let (message, _) = unit.message();
    let differences = subject.1.differences(reference.1);
    let mut named: Vec<String> = differences.iter().take(NAMED_CALLS).map(in_words).collect();
    if differences.len() > NAMED_CALLS {
        named.push("and smaller differences".to_owned());
    }
    let named = if named.is_empty() { "the same calls".to_owned() } else { named.join(", ") };
    let [theirs, ours] = [reference.1.total(), subject.1.total()];
    let traced = if reference.1.traced || subject.1.traced { " (seen by a tracer)" } else { "" };
    format!("{} makes {theirs:.2} calls a {message}, {} {ours:.2}{traced}: {named}", reference.0, subject.0)
}

fn in_words((name, difference): &(String, f64)) -> String {
    format!("{:.2} {} {name}", difference.abs(), if *difference > 0.0 { "more" } else { "fewer" })
}

/// `slowed makes 1.00 more getsockopt a message`.
fn extra_calls(build: &str, ours: &Calls, theirs: &Calls, unit: Unit) -> String {
    let (message, _) = unit.message();
    let differences = ours.differences(theirs);
    if differences.is_empty() {
        return format!("{build} makes the same system calls");
    }
    let named: Vec<String> = differences.iter().map(in_words).collect();
    format!("{build} makes {} a {message}", named.join(", "))
}
