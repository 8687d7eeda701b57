//! What a process holds in its memory: every place that it may write to is searched.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

/// The most that is read at a time.
const CHUNK: usize = 1 << 20;

/// How often bytes stand in the writable memory of another process. It must not be undumpable to us.
pub fn occurrences(pid: i32, needle: &[u8]) -> usize {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let memory = File::open(format!("/proc/{pid}/mem")).unwrap();
    let writable = maps.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let (range, rights) = (words.next()?, words.next()?);
        let (from, to) = range.split_once('-')?;
        let address = |text| u64::from_str_radix(text, 16).unwrap();
        rights.starts_with("rw").then(|| (address(from), address(to)))
    });
    writable.map(|(from, to)| within(&memory, from, to, needle)).sum()
}

fn within(memory: &File, from: u64, to: u64, needle: &[u8]) -> usize {
    let mut found = 0;
    let mut carried = Vec::new();
    let mut at = from;
    while at < to {
        let mut chunk = vec![0; CHUNK.min(usize::try_from(to - at).unwrap())];
        let Ok(length) = memory.read_at(&mut chunk, at) else {
            return found; // a place that nothing can read, as the kernel's own
        };
        if length == 0 {
            return found;
        }
        carried.extend_from_slice(&chunk[..length]);
        found += carried.windows(needle.len()).filter(|bytes| *bytes == needle).count();
        let kept = carried.len().min(needle.len() - 1);
        carried.drain(..carried.len() - kept);
        at += length as u64;
    }
    found
}
