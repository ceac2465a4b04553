//! What of this machine bears on figures that are measured on it, and what makes them worth little.

use std::collections::BTreeMap;
use std::fs;
use std::thread;
use std::time::Duration;

use super::measure::Machine;
use crate::sys;

/// How long [`Signs::now`] watches the CPUs: 50 looks of the kernel, so that one of them is 2 %.
const WATCH: Duration = Duration::from_millis(500);
/// CPUs that others may keep busy before it is said. One look in 50 is chance.
const OTHERS: f64 = 0.1;
/// The share of time that the hypervisor may take before it is said.
const STEAL: f64 = 0.02;
/// The load average of the last minute (proc_loadavg(5)) that is said although the CPUs are quiet now: somebody who
/// works now and then.
const LOAD: f64 = 0.5;
/// Clock sources that are read without a system call or an exit to the hypervisor.
const FAST_CLOCKS: [&str; 5] =
    ["tsc", "kvm-clock", "hyperv_clocksource_tsc_page", "arch_sys_counter", "riscv_clocksource"];

/// The file's text without the white space around it; `None` where it cannot be read, or has none.
fn read(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?.trim().to_string();
    (!text.is_empty()).then_some(text)
}

/// A setting of the kernel, sysctl(8), its numbers with one space between them.
fn setting(name: &str) -> Option<String> {
    let text = read(&format!("/proc/sys/{}", name.replace('.', "/")))?;
    Some(text.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// What stands behind `name` and a colon in a file of such lines, such as /proc/cpuinfo.
fn line(text: &str, name: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        (found.trim() == name).then(|| value.trim().to_string())
    })
}

/// The kernel's release and version: `6.18.44 #1 SMP PREEMPT_DYNAMIC`.
#[must_use]
pub fn kernel() -> String {
    ["kernel.osrelease", "kernel.version"].into_iter().filter_map(setting).collect::<Vec<_>>().join(" ")
}

/// The processor's name; the machine's word for its kind where it has none.
#[must_use]
pub fn processor() -> String {
    let info = read("/proc/cpuinfo").unwrap_or_default();
    ["model name", "Model", "Hardware", "uarch"]
        .into_iter()
        .find_map(|name| line(&info, name))
        .unwrap_or_else(|| std::env::consts::ARCH.to_string())
}

/// Facts of the machine and the kernel that bear on figures, each as its name and value; what this kernel does not tell
/// is left out. Nothing in them names the machine or its user.
#[must_use]
pub fn facts() -> Vec<(String, String)> {
    let (cpus, quota) = sys::allowed_cpus();
    let info = read("/proc/cpuinfo").unwrap_or_default();
    let memory = read("/proc/meminfo").unwrap_or_default();
    let limits = read("/proc/self/limits").unwrap_or_default();
    let mut facts = vec![
        ("microcode", line(&info, "microcode")),
        ("CPUs", read("/sys/devices/system/cpu/online")),
        ("CPUs allowed", Some(ranges(&cpus))),
        ("CPUs by quota", (quota < cpus.len()).then(|| quota.to_string())),
        ("threads of a core", read("/sys/devices/system/cpu/cpu0/topology/thread_siblings_list")),
        ("memory", line(&memory, "MemTotal")),
        ("hypervisor", hypervisor(&info)),
        ("governor", governor()),
        ("mitigations", mitigations()),
        ("clock source", clock_source()),
        ("C library", Some(format!("{} (as built)", c_library()))),
        ("descriptors", limit(&limits, "Max open files")),
        ("locked memory", limit(&limits, "Max locked memory")),
    ];
    facts.extend(SETTINGS.into_iter().map(|name| (name, setting(name))));
    facts.into_iter().filter_map(|(name, value)| Some((name.to_string(), value?))).collect()
}

/// Settings that bear on sockets, on io_uring and on who is seen by whom.
const SETTINGS: [&str; 14] = [
    "net.ipv4.tcp_congestion_control",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
    "net.ipv4.tcp_mem",
    "net.ipv4.tcp_tw_reuse",
    "net.core.somaxconn",
    "net.core.rmem_max",
    "net.core.wmem_max",
    "fs.pipe-user-pages-soft",
    "kernel.io_uring_disabled",
    "kernel.perf_event_paranoid",
    "kernel.yama.ptrace_scope",
    "kernel.sched_autogroup_enabled",
];

/// Numbers as the kernel writes a set of CPUs: `0-3,7`.
fn ranges(cpus: &[u32]) -> String {
    let mut ranges: Vec<[u32; 2]> = Vec::new();
    for &cpu in cpus {
        match ranges.last_mut() {
            Some([_, last]) if *last + 1 == cpu => *last = cpu,
            _ => ranges.push([cpu, cpu]),
        }
    }
    let range = |[first, last]: &[u32; 2]| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    ranges.iter().map(range).collect::<Vec<_>>().join(",")
}

/// What runs this machine as a guest, as far as it tells; `None` on bare metal.
fn hypervisor(cpuinfo: &str) -> Option<String> {
    let vendor = || read("/sys/class/dmi/id/sys_vendor");
    let product = || Some(format!("{} {}", vendor()?, read("/sys/class/dmi/id/product_name")?));
    let flags = line(cpuinfo, "flags").unwrap_or_default();
    let clock = || (clock_source()? == "kvm-clock").then(|| "KVM".to_string());
    let guest = flags.split(' ').any(|flag| flag == "hypervisor");
    read("/sys/hypervisor/type").or_else(|| {
        guest.then(|| product().or_else(clock).unwrap_or_else(|| "yes, of unknown kind".to_string()))
    })
}

/// How the frequency of the first CPU is chosen.
fn governor() -> Option<String> {
    read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
}

fn clock_source() -> Option<String> {
    read("/sys/devices/system/clocksource/clocksource0/current_clocksource")
}

fn c_library() -> &'static str {
    if cfg!(target_env = "musl") { "musl" } else { "glibc" }
}

/// The soft and the hard limit in a line of /proc/self/limits.
fn limit(limits: &str, name: &str) -> Option<String> {
    let mut words = limits.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace();
    Some(format!("{}, at most {}", words.next()?, words.next()?))
}

/// The weaknesses of the processor that cost something, with what is done about them in a few words.
fn mitigations() -> Option<String> {
    let entries = fs::read_dir("/sys/devices/system/cpu/vulnerabilities").ok()?;
    let mut known: BTreeMap<String, String> = BTreeMap::new();
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        known.insert(name, read(entry.path().to_str()?).unwrap_or_default());
    }
    let affected = known.iter().filter(|(_, state)| *state != "Not affected");
    let short = |(name, state): (&String, &String)| {
        let state = state.strip_prefix("Mitigation: ").unwrap_or(state);
        format!("{name}: {}", state.split(';').next().unwrap_or_default())
    };
    Some(affected.map(short).collect::<Vec<_>>().join("; "))
}

/// What makes figures worth little, as it is when a run begins.
#[derive(Clone, Debug, Default)]
pub struct Signs {
    /// How many CPUs there are for proxy, clients and back ends.
    pub cpus: usize,
    /// Whether this is a guest of a hypervisor.
    pub guest: bool,
    /// How the frequency of CPUs is chosen, if that can be seen.
    pub governor: Option<String>,
    /// What the kernel reads the time from, if that can be seen.
    pub clock_source: Option<String>,
    /// CPUs that are busy although this process does nothing.
    pub others: f64,
    /// The share of time of these CPUs that the hypervisor gave to others.
    pub steal: f64,
    /// The load average of the last minute.
    pub load: f64,
}

impl Signs {
    /// Watches `cpus` for half a second, in which the caller's process should do nothing.
    #[must_use]
    pub fn now(cpus: &[u32]) -> Self {
        let load = read("/proc/loadavg").and_then(|load| load.split(' ').next()?.parse().ok());
        let before = Machine::now();
        thread::sleep(WATCH);
        let busy = Machine::now().since(&before, cpus);
        Self {
            cpus: cpus.len(),
            guest: hypervisor(&read("/proc/cpuinfo").unwrap_or_default()).is_some(),
            governor: governor(),
            clock_source: clock_source(),
            others: busy.busy / WATCH.as_secs_f64(),
            steal: busy.steal / WATCH.as_secs_f64() / cpus.len().max(1) as f64,
            load: load.unwrap_or(0.0),
        }
    }

    /// What they mean for a run, in words, with what would help.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.cpus < 2 {
            warnings.push(
                "there is one CPU only: clients, back ends and proxy take it from each other, so throughput and \
                 latency say little; CPU time for a unit of work is still worth something"
                    .to_string(),
            );
        }
        if self.steal > STEAL {
            let percent = 100.0 * self.steal;
            warnings.push(format!("the hypervisor gives {percent:.0} % of the CPUs' time to other guests"));
        } else if self.guest {
            warnings.push(
                "this is a virtual machine: its CPUs may share cores with others, which costs show and `steal` need not"
                    .to_string(),
            );
        }
        if self.others > OTHERS {
            warnings.push(format!("others are at work: they keep {:.1} CPUs busy", self.others));
        } else if self.load > LOAD {
            let load = self.load;
            warnings.push(format!(
                "others were at work a moment ago, and may be again: the load average of the last minute is {load:.1}"
            ));
        }
        if let Some(governor) =
            self.governor.as_deref().filter(|name| !["performance", "userspace"].contains(name))
        {
            warnings.push(format!(
                "the CPUs change their frequency (governor `{governor}`): `cpupower frequency-set -g performance`"
            ));
        }
        if let Some(source) = self.clock_source.as_deref().filter(|name| !FAST_CLOCKS.contains(name)) {
            warnings.push(format!(
                "reading the time is slow here (clock source `{source}`), which is in every latency"
            ));
        }
        warnings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine to measure on.
    fn good() -> Signs {
        Signs {
            cpus: 4,
            governor: Some("performance".into()),
            clock_source: Some("tsc".into()),
            load: 0.2,
            ..Signs::default()
        }
    }

    #[test]
    fn a_quiet_machine_needs_no_warning() {
        assert_eq!(good().warnings(), Vec::<String>::new());
        let unknown = Signs { governor: None, clock_source: None, ..good() };
        assert_eq!(unknown.warnings(), Vec::<String>::new());
    }

    #[test]
    fn each_sign_has_its_warning() {
        for (signs, part) in [
            (Signs { cpus: 1, ..good() }, "one CPU only"),
            (Signs { guest: true, ..good() }, "virtual machine"),
            (Signs { guest: true, steal: 0.25, ..good() }, "25 %"),
            (Signs { others: 0.5, ..good() }, "0.5 CPUs busy"),
            (Signs { load: 3.0, ..good() }, "load average of the last minute is 3.0"),
            (Signs { governor: Some("powersave".into()), ..good() }, "`powersave`"),
            (Signs { clock_source: Some("hpet".into()), ..good() }, "`hpet`"),
        ] {
            let warnings = signs.warnings();
            assert!(warnings.len() == 1 && warnings[0].contains(part), "{part}: {warnings:?}");
        }
    }

    #[test]
    fn this_machine_has_facts() {
        let facts = facts();
        for (name, value) in &facts {
            println!("{name}: {value}");
            assert!(!value.is_empty() && !value.contains('\n'), "{name}: {value:?}");
        }
        let has = |name: &str| facts.iter().any(|(found, _)| found == name);
        assert!(["CPUs allowed", "memory", "descriptors"].into_iter().all(has));
        let signs = Signs::now(&sys::allowed_cpus().0);
        assert!(signs.cpus > 0 && (0.0..=1.0).contains(&signs.steal), "{signs:?}");
        println!("{signs:?}\n{:#?}", signs.warnings());
    }

    #[test]
    fn lines_are_read_as_the_kernel_writes_them() {
        assert_eq!(ranges(&[0, 1, 2, 3, 7, 9, 10]), "0-3,7,9-10");
        assert_eq!(ranges(&[]), "");
        let limits =
            "Limit   Soft Limit  Hard Limit  Units\nMax open files            1024      524288    files\n";
        assert_eq!(limit(limits, "Max open files").unwrap(), "1024, at most 524288");
        assert_eq!(line("model\t\t: 2\nmodel name\t: AMD EPYC\n", "model name").unwrap(), "AMD EPYC");
    }
}
