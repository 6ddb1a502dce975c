//! The memory of this process, as the operating system counts it.

/// The most memory this process has had at once, in bytes: `VmHWM` in `/proc/self/status`; `None`
/// elsewhere.
pub fn peak_rss_bytes() -> Option<u64> {
    field(&std::fs::read_to_string("/proc/self/status").ok()?, "VmHWM:")
}

/// Starts that peak again from what the process has now. Where the operating system cannot, it
/// stays.
pub fn reset_peak_rss() {
    // Linux: Documentation/filesystems/proc.rst
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// The memory this process has now, in bytes: `VmRSS` in `/proc/self/status`; `None` elsewhere.
pub fn rss_bytes() -> Option<u64> {
    field(&std::fs::read_to_string("/proc/self/status").ok()?, "VmRSS:")
}

/// What of it are pages of files, in bytes: the program's code as far as it has run, and what it
/// has mapped; `RssFile` in `/proc/self/status`; `None` elsewhere.
pub fn rss_of_files_bytes() -> Option<u64> {
    field(&std::fs::read_to_string("/proc/self/status").ok()?, "RssFile:")
}

fn field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_from_the_kernel() {
        assert_eq!(field("VmPeak:\t 9 kB\nVmHWM:\t   1234 kB\n", "VmHWM:"), Some(1234 * 1024));
        assert_eq!(field("nothing", "VmHWM:"), None);
        if cfg!(target_os = "linux") {
            let now = rss_bytes().unwrap();
            assert!(rss_of_files_bytes().is_some_and(|files| files > 1 << 20 && files <= now));
            assert!(now > 1 << 20 && peak_rss_bytes().unwrap() > 1 << 20);
        }
    }
}
