//! Two network namespaces with a cable between them that can be cut: peers that vanish without a word.
//!
//! A namespace lives as long as a `sleep` that was started in it, so nothing is left behind, whatever ends the test.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::PATIENCE;

/// The addresses at the two ends, of a range that is for documentation and leads nowhere.
pub(crate) const NEAR: &str = "192.0.2.1";
pub(crate) const FAR: &str = "192.0.2.2";

/// The two ends.
pub(crate) struct Link {
    near: Namespace,
    far: Namespace,
}

impl Link {
    /// A new pair; `None`, with a line that says why, where the machine does not permit it. With
    /// `TIDEGATE_REQUIRE_TOOLS=1` that is a failure.
    pub(crate) fn new() -> Option<Self> {
        match Self::make() {
            Ok(link) => Some(link),
            Err(why) => {
                let required = std::env::var("TIDEGATE_REQUIRE_TOOLS").is_ok_and(|value| value == "1");
                assert!(!required, "no network namespaces: {why}");
                eprintln!("SKIPPED: it takes network namespaces (root, unshare, iproute2): {why}");
                None
            }
        }
    }

    fn make() -> io::Result<Self> {
        let link = Self { near: Namespace::new()?, far: Namespace::new()? };
        let far = link.far.holder.id();
        link.near.ip(&format!("link add near type veth peer name far netns {far}"))?;
        for (end, name, address) in [(&link.near, "near", NEAR), (&link.far, "far", FAR)] {
            end.ip("link set lo up")?;
            end.ip(&format!("address add {address}/30 dev {name}"))?;
            end.ip(&format!("link set {name} up"))?;
        }
        Ok(link)
    }

    /// Does something at the near end: sockets that are made and programs that are started belong to it for good.
    pub(crate) fn near<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        self.near.within(act)
    }

    /// Does something at the far end.
    pub(crate) fn far<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        self.far.within(act)
    }

    /// The namespace of the near end.
    pub(crate) fn near_end(&self) -> &Namespace {
        &self.near
    }

    /// That of the far end.
    pub(crate) fn far_end(&self) -> &Namespace {
        &self.far
    }

    /// From now on everything that the far end sends is lost.
    pub(crate) fn cut(&self) {
        self.far.ip(&format!("route add blackhole {NEAR}/32")).expect("the cable can be cut");
    }

    /// Ends a [`Link::cut`].
    pub(crate) fn mend(&self) {
        self.far.ip(&format!("route delete blackhole {NEAR}/32")).expect("the cable can be mended");
    }
}

/// A network of its own.
pub(crate) struct Namespace {
    holder: Child,
}

impl Namespace {
    /// One without a device that is up.
    pub(crate) fn new() -> io::Result<Self> {
        let holder = Command::new("unshare").args(["--net", "sleep", "120"]).stderr(Stdio::null()).spawn()?;
        let mut namespace = Self { holder };
        let ours = fs::read_link("/proc/thread-self/ns/net")?;
        let began = Instant::now();
        // Between fork and unshare it is still in ours.
        while fs::read_link(namespace.path())? == ours {
            if namespace.holder.try_wait()?.is_some() || began.elapsed() > PATIENCE {
                return Err(ErrorKind::PermissionDenied.into());
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(namespace)
    }

    /// Its holder's process id.
    pub(crate) fn id(&self) -> u32 {
        self.holder.id()
    }

    fn path(&self) -> String {
        format!("/proc/{}/ns/net", self.holder.id())
    }

    /// Runs on a thread of its own, which moves into the namespace and ends there.
    pub(crate) fn within<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        let act = || {
            let namespace = File::open(self.path()).expect("its holder runs");
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                .expect("root may enter what it made");
            act()
        };
        thread::scope(|scope| {
            scope.spawn(act).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Runs ip(8) in it.
    pub(crate) fn ip(&self, arguments: &str) -> io::Result<()> {
        let output = self.within(|| Command::new("ip").args(arguments.split(' ')).output())?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(io::Error::other(format!("ip {arguments}: {}", said.trim())))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
