//! The `tokenizers` crate, asked so that what it panics at is an error.

/// What the crate gives, or why it gives nothing.
pub(super) fn guarded<T>(ask: impl FnOnce() -> tokenizers::Result<T>) -> Result<T, String> {
    // of what it has in its hands when it panics nothing but caches changes
    crate::guarded::guarded("tokenizers", ask)
}
