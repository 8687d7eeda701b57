//! Where key material lies: in pages that stay in memory, out of core dumps and out of forked children.
//!
//! Each key has a page of its own, asked of the kernel directly, so that nothing else comes to lie beside it and what is
//! said of the page is said of the key alone. A kernel or a limit (`ulimit -l`) that refuses the lock does not keep a
//! key from being used; `guard` looks at the pages themselves and says whether they are locked.

use std::io;
use std::ops::Range;

use memmap2::{Advice, MmapMut};
use zeroize::Zeroize as _;

/// Bytes of key material. Wiped when dropped; no `Debug`, no copy.
pub(super) struct Locked(MmapMut);

impl Locked {
    /// So many zero bytes.
    ///
    /// # Errors
    /// Where there is no memory.
    pub(super) fn zeroed(bytes: usize) -> io::Result<Self> {
        let pages = MmapMut::map_anon(bytes)?;
        // What is refused here is told by the process's guards, which look at the page.
        let _ = pages.lock();
        let _ = pages.advise(Advice::DontDump);
        let _ = pages.advise(Advice::DontFork);
        Ok(Self(pages))
    }

    /// The key.
    pub(super) fn expose_secret(&self) -> &[u8] {
        &self.0
    }

    /// The key, to be written.
    pub(super) fn expose_secret_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }

    /// Where it lies.
    pub(super) fn addresses(&self) -> Range<usize> {
        let start = self.0.as_ptr().addr();
        start..start.saturating_add(self.0.len())
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::fs;

    use super::*;

    /// What the kernel says of the page at an address (proc(5), `VmFlags`).
    fn flags(address: usize) -> String {
        let maps = fs::read_to_string("/proc/self/smaps").unwrap();
        let mut within = false;
        for line in maps.lines() {
            let range = line.split(' ').next().and_then(|range| range.split_once('-'));
            let bounds = range.map(|(from, to)| [from, to].map(|bound| usize::from_str_radix(bound, 16)));
            if let Some([Ok(from), Ok(to)]) = bounds {
                within = (from..to).contains(&address);
            }
            if within && let Some(flags) = line.strip_prefix("VmFlags:") {
                return flags.to_owned();
            }
        }
        String::new()
    }

    #[test]
    fn a_key_lies_in_a_page_that_is_locked_undumpable_and_not_inherited() {
        let mut key = Locked::zeroed(32).unwrap();
        assert_eq!(key.expose_secret(), [0; 32]);
        key.expose_secret_mut().fill(7);
        assert_eq!(key.expose_secret(), [7; 32]);
        let flags = flags(key.addresses().start);
        for flag in ["lo", "dd", "dc"] {
            assert!(flags.split(' ').any(|word| word == flag), "{flag}: {flags}");
        }
    }

    #[test]
    fn two_keys_share_no_page() {
        let [one, two] = [Locked::zeroed(32).unwrap(), Locked::zeroed(32).unwrap()];
        assert!(one.addresses().start.abs_diff(two.addresses().start) >= 4096);
    }
}
