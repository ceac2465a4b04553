//! Who this process is, and what it may do: credentials(7), capabilities(7).

use std::io;

#[cfg(not(target_os = "linux"))]
pub use elsewhere::{User, is_root};
#[cfg(target_os = "linux")]
pub use on_linux::{User, is_root};

/// Why the process cannot become another user.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// Nobody has that name.
    #[error(
        "process.user = \"{0}\": there is no such user here\n  = help: `useradd --system --no-create-home {0}` makes it; \
         `getent passwd` shows those that there are"
    )]
    Unknown(String),
    /// Only root may become somebody else.
    #[error(
        "process.user = \"{name}\": this process runs as the user number {own}, and only root may become another\n  \
         = help: start it as root; or leave `user` out and start it as {name}, with User={name} in the systemd unit"
    )]
    NotRoot {
        /// As configured.
        name: String,
        /// Who it is now.
        own: u32,
    },
    /// There are threads that would stay who they are.
    #[error(
        "process.user = \"{0}\": this command has other threads, which would stay who they are\n  = help: leave `user` \
         out here; `tidegate run` heeds it"
    )]
    Threads(String),
    /// A call failed.
    #[error(
        "process.user = \"{name}\": cannot {what}: {cause}\n  = help: root needs CAP_SETUID, CAP_SETGID and CAP_SETPCAP for \
         it; in a container they may be missing"
    )]
    System {
        /// As configured.
        name: String,
        /// What was tried.
        what: &'static str,
        /// The operating system's answer.
        cause: io::Error,
    },
}

#[cfg(target_os = "linux")]
mod on_linux {
    use std::ffi::CString;
    use std::io;
    use std::path::Path;
    use std::thread;

    use nix::unistd;
    use rustix::fs::{AtFlags, CWD, Mode, OFlags, Stat, chownat, fstat, openat};
    use rustix::io::Errno;
    use rustix::process::{Gid, Uid, geteuid};
    use rustix::thread::{
        CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set,
        configure_capability_in_ambient_set, remove_capability_from_bounding_set, set_capabilities,
        set_keep_capabilities, set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
    };

    use super::UserError;
    use crate::sys::supervisor::is_alone;
    use crate::sys::unix::SocketFile;

    /// What is kept always: a later reload may bind a port below 1024.
    const KEPT: CapabilitySet = CapabilitySet::NET_BIND_SERVICE;

    /// A user of this system, whom the process may become.
    #[derive(Debug)]
    pub struct User {
        name: String,
        uid: Uid,
        gid: Gid,
        groups: Vec<Gid>,
        /// What it may beside what anybody may.
        keeps: CapabilitySet,
    }

    /// Whether this process may do whatever it likes.
    #[must_use]
    pub fn is_root() -> bool {
        geteuid().is_root()
    }

    impl User {
        /// Looks a user up, and whether this process may become it. With `net_raw` it keeps CAP_NET_RAW, which some
        /// options of sockets take.
        ///
        /// # Errors
        /// There is none of that name, or only root could; or what the system says.
        pub fn find(name: &str, net_raw: bool) -> Result<Self, UserError> {
            let system = |what, cause: nix::Error| UserError::System {
                name: name.to_owned(),
                what,
                cause: cause.into(),
            };
            let unknown = || UserError::Unknown(name.to_owned());
            let user = unistd::User::from_name(name).map_err(|error| system("look the user up", error))?;
            let user = user.ok_or_else(unknown)?;
            let own = geteuid();
            if !own.is_root() && own.as_raw() != user.uid.as_raw() {
                return Err(UserError::NotRoot { name: name.to_owned(), own: own.as_raw() });
            }
            let c_name = CString::new(name).map_err(|_| unknown())?;
            let groups = unistd::getgrouplist(&c_name, user.gid);
            let groups = groups.map_err(|error| system("look up the groups of the user", error))?;
            Ok(Self {
                name: name.to_owned(),
                uid: Uid::from_raw(user.uid.as_raw()),
                gid: Gid::from_raw(user.gid.as_raw()),
                groups: groups.into_iter().map(|group| Gid::from_raw(group.as_raw())).collect(),
                keeps: if net_raw { KEPT | CapabilitySet::NET_RAW } else { KEPT },
            })
        }

        /// Makes this user and its group the owners of a socket's file, unless another file has taken its place.
        ///
        /// # Errors
        /// The operating system's: only root may, and with CAP_CHOWN.
        pub fn own(&self, file: &SocketFile) -> io::Result<()> {
            self.own_what(file.path(), OFlags::empty(), |found| file.is(found))
        }

        /// The same for a folder that was made for such a file.
        ///
        /// # Errors
        /// The operating system's: only root may, and with CAP_CHOWN.
        pub fn own_folder(&self, path: &Path) -> io::Result<()> {
            self.own_what(path, OFlags::DIRECTORY, |_| true)
        }

        /// What is looked at is what changes its owner: whoever may write the folder could put another file there meanwhile.
        fn own_what(&self, path: &Path, kind: OFlags, is_it: impl Fn(&Stat) -> bool) -> io::Result<()> {
            let flags = kind | OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = openat(CWD, path, flags, Mode::empty())?;
            if is_it(&fstat(&file)?) {
                chownat(&file, "", Some(self.uid), Some(self.gid), AtFlags::EMPTY_PATH)?;
            }
            Ok(())
        }

        /// Does something as this user, in a thread of its own.
        ///
        /// # Errors
        /// The thread cannot become the user, or there can be no thread.
        pub fn try_out<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, UserError> {
            let work = || self.adopt().map(|()| work());
            thread::scope(|scope| match thread::Builder::new().spawn_scoped(scope, work) {
                Ok(thread) => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
                Err(cause) => Err(self.failed("start a thread", cause)),
            })
        }

        /// Makes the process this user, for good: with the user's groups, with no capability but those that are needed
        /// later, and without a way to get others. Threads that are started later are the same.
        ///
        /// # Errors
        /// The process has other threads, or the operating system says no. It must end then: it may be half one and half
        /// the other.
        pub fn adopt_for_good(&self) -> Result<(), UserError> {
            // The kernel keeps all this for each thread on its own.
            if is_alone() == Some(false) {
                return Err(UserError::Threads(self.name.clone()));
            }
            self.adopt()
        }

        /// Makes the calling thread this user.
        fn adopt(&self) -> Result<(), UserError> {
            let step =
                |what, result: Result<(), Errno>| result.map_err(|cause| self.failed(what, cause.into()));
            let before =
                capabilities(None).map_err(|cause| self.failed("ask for capabilities", cause.into()))?;
            let kept = before.permitted & self.keeps;
            if before.effective.contains(CapabilitySet::SETPCAP) {
                step("cut the bounding set", cut_bounding_set(self.keeps))?;
            }
            if geteuid().is_root() {
                step("set the groups", set_thread_groups(&self.groups))?;
                step("set the group", set_thread_res_gid(self.gid, self.gid, self.gid))?;
                // What is permitted would be lost with the user otherwise.
                step("keep capabilities", set_keep_capabilities(true))?;
                step("set the user", set_thread_res_uid(self.uid, self.uid, self.uid))?;
                step("keep capabilities", set_keep_capabilities(false))?;
            }
            let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: kept };
            step("drop capabilities", set_capabilities(None, sets))?;
            step("drop capabilities", clear_ambient_capability_set())?;
            for one in kept.iter() {
                // A new version that takes this one's place has it by this alone.
                step("keep capabilities", configure_capability_in_ambient_set(one, true))?;
            }
            step("give up new privileges", set_no_new_privs(true))
        }

        fn failed(&self, what: &'static str, cause: io::Error) -> UserError {
            UserError::System { name: self.name.clone(), what, cause }
        }
    }

    /// No program that is started can get what is not in this set, whatever its file says.
    fn cut_bounding_set(kept: CapabilitySet) -> Result<(), Errno> {
        for bit in 0..u64::BITS {
            let capability = CapabilitySet::from_bits_retain(1 << bit);
            if kept.contains(capability) {
                continue;
            }
            match remove_capability_from_bounding_set(capability) {
                // The kernel knows no more.
                Err(Errno::INVAL) => break,
                result => result?,
            }
        }
        Ok(())
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn who_is_not_there_cannot_be_become() {
            let said = User::find("no-such-user-here", false).unwrap_err().to_string();
            assert!(said.contains("there is no such user here"), "{said}");
            assert!(said.contains("useradd --system --no-create-home no-such-user-here"), "{said}");
        }

        /// The other threads of this test stay who they are.
        #[test]
        fn what_is_tried_out_leaves_the_process_as_it_is() {
            if !is_root() {
                println!("skipped: only root may become another user");
                return;
            }
            let nobody = User::find("nobody", false).expect("every system has it");
            let before = capabilities(None).unwrap();
            let (uid, sets) = nobody.try_out(|| (geteuid(), capabilities(None).unwrap())).unwrap();
            assert_eq!(uid, nobody.uid);
            assert_eq!(sets.permitted, before.permitted & KEPT);
            let raw = User::find("nobody", true).unwrap();
            let kept = raw.try_out(|| capabilities(None).unwrap().permitted).unwrap();
            assert_eq!(kept, before.permitted & (KEPT | CapabilitySet::NET_RAW));
            assert!(is_root());
            assert_eq!(capabilities(None).unwrap(), before);
            let said = nobody.adopt_for_good().unwrap_err().to_string();
            assert!(said.contains("has other threads"), "{said}");
        }
    }
}

/// Elsewhere the configuration refuses `user`.
#[cfg(not(target_os = "linux"))]
mod elsewhere {
    #[cfg(unix)]
    use std::{io, path::Path};

    use super::UserError;
    #[cfg(unix)]
    use crate::sys::SocketFile;

    /// A user whom the process may become: there is none.
    #[derive(Debug)]
    pub enum User {}

    /// Not known, and nothing depends on it.
    #[must_use]
    pub fn is_root() -> bool {
        false
    }

    impl User {
        /// Nobody is found.
        ///
        /// # Errors
        /// Always.
        pub fn find(name: &str, _: bool) -> Result<Self, UserError> {
            Err(UserError::Unknown(name.to_owned()))
        }

        /// Never called.
        ///
        /// # Errors
        /// None.
        pub fn try_out<T>(&self, _: impl FnOnce() -> T) -> Result<T, UserError> {
            match *self {}
        }

        /// Never called.
        ///
        /// # Errors
        /// None.
        #[cfg(unix)]
        pub fn own(&self, _: &SocketFile) -> io::Result<()> {
            match *self {}
        }

        /// Never called.
        ///
        /// # Errors
        /// None.
        #[cfg(unix)]
        pub fn own_folder(&self, _: &Path) -> io::Result<()> {
            match *self {}
        }

        /// Never called.
        ///
        /// # Errors
        /// None.
        pub fn adopt_for_good(&self) -> Result<(), UserError> {
            match *self {}
        }
    }
}
