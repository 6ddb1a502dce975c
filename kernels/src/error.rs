//! What can go wrong below the engine.

/// The error of every kernel and device call.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A buffer does not hold as many elements as the launch needs.
    #[error("{kernel}: `{argument}` holds {got} elements, {expected} are needed")]
    Length {
        /// The kernel that refused.
        kernel: &'static str,
        /// Its argument.
        argument: &'static str,
        /// Elements needed.
        expected: usize,
        /// Elements found.
        got: usize,
    },
    /// A matrix of another shape than the launch needs.
    #[error("{kernel}: `{argument}` has shape {got:?}, expected {expected:?}")]
    Shape {
        /// The kernel that refused.
        kernel: &'static str,
        /// Its argument.
        argument: &'static str,
        /// (rows, columns) needed.
        expected: (usize, usize),
        /// (rows, columns) found.
        got: (usize, usize),
    },
    /// A part that is not inside its matrix.
    #[error("rows {rows:?} and columns {cols:?} are not inside a matrix of {of:?}")]
    Part {
        /// The rows asked for.
        rows: std::ops::Range<usize>,
        /// The columns asked for.
        cols: std::ops::Range<usize>,
        /// Its (rows, columns).
        of: (usize, usize),
    },
    /// Parts that must be disjoint are not.
    #[error("{kernel}: `{argument}` overlap")]
    Overlap {
        /// The kernel that refused.
        kernel: &'static str,
        /// Its argument.
        argument: &'static str,
    },
    /// A label, or another number, that names nothing.
    #[error("{kernel}: there is no {what} {got}: there are {below}, counted from 0")]
    Range {
        /// The kernel that refused.
        kernel: &'static str,
        /// What it names.
        what: &'static str,
        /// The number.
        got: usize,
        /// The first one that is too large.
        below: usize,
    },
    /// Arguments that are each well-formed and do not go together, or that no launch can serve.
    #[error("{kernel}: {what}")]
    Invalid {
        /// The kernel that refused.
        kernel: &'static str,
        /// What is wrong, in words.
        what: String,
    },
    /// A buffer holds another element type than the kernel takes.
    #[error("{kernel}: `{argument}` is {got}, expected {expected}")]
    DType {
        /// The kernel that refused.
        kernel: &'static str,
        /// Its argument.
        argument: &'static str,
        /// What the kernel takes.
        expected: &'static str,
        /// What the buffer holds.
        got: crate::DType,
    },
    /// The kernel has no code for this device.
    #[error("{kernel} does not run on {device}")]
    Unsupported {
        /// The kernel that refused.
        kernel: &'static str,
        /// The device.
        device: &'static str,
    },
    /// Two arguments of one launch live on different devices.
    #[error("{kernel}: `{argument}` lives on another device")]
    Elsewhere {
        /// The kernel that refused.
        kernel: &'static str,
        /// Its argument.
        argument: &'static str,
    },
    /// The device could not be opened.
    #[error("cannot open {device}: {why}")]
    Open {
        /// The device.
        device: &'static str,
        /// The reason, from the driver or the operating system.
        why: String,
    },
    /// No memory of that size.
    #[error("out of memory on {device}: {bytes} bytes were asked for")]
    Memory {
        /// The device.
        device: &'static str,
        /// Bytes asked for.
        bytes: usize,
    },
    /// The CUDA driver refused a call.
    #[error("CUDA: {0}")]
    Cuda(String),
    /// A file could not be mapped.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: std::path::PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
}

/// `Result` with the kernels' [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Elements that are not where a kernel of `place` could read or write them.
    pub(crate) fn not_on(place: &str, device: &'static str) -> Error {
        let what = format!("a kernel of {place} was given elements on {device}");
        Error::Invalid { kernel: "access", what }
    }
    /// A matrix whose elements a machine cannot count.
    pub(crate) fn uncountable(
        kernel: &'static str,
        argument: &'static str,
        (rows, cols): (usize, usize),
    ) -> Error {
        let what = format!("`{argument}` of {rows} x {cols} elements is larger than any memory");
        Error::Invalid { kernel, what }
    }
}

#[cfg(test)]
mod tests {
    use crate::*;

    /// What a caller can get wrong, and what it is told.
    #[test]
    fn messages_say_what_is_wrong() {
        let (d, null) = (Device::cpu(1).unwrap(), Device::null(1));
        let mut x = d.upload(Class::Saved, &[1f32; 6]).unwrap();
        let index = d.upload(Class::Saved, &[7u32]).unwrap();
        let mut there = null.zeros::<f32>(Class::Saved, 6).unwrap();
        let says = |r: Result<()>, words: &str| assert_eq!(r.unwrap_err().to_string(), words);

        says(x.write(&[1f32; 5]), "write: `values` holds 5 elements, 6 are needed");
        says(x.write(&[1u32; 6]), "write: `buffer` is f32, expected u32");
        says(there.host_mut::<f32>().map(drop), "access: a kernel of the host was given elements on null");
        says(x.cuda().map(drop), "access: a kernel of a GPU was given elements on cpu");
        let huge = d.alloc::<f32>(Class::Saved, 1 << 60).map(drop);
        says(huge, "out of memory on cpu: 4611686018427387904 bytes were asked for");

        says(View::of(&x, 2, 4).map(drop), "view: `buffer` holds 6 elements, 8 are needed");
        let most = usize::MAX;
        let words = format!("view: `matrix` of {most} x 2 elements is larger than any memory");
        says(View::of(&x, most, 2).map(drop), &words);
        let part = View::of(&x, 2, 3).and_then(|v| v.rows_of(1..3)).map(drop);
        says(part, "rows 1..3 and columns 0..3 are not inside a matrix of (2, 3)");
        let columns = ViewMut::of(&mut x, 2, 3).unwrap().split_cols(&[0..2, 1..3]).map(drop);
        says(columns, "view: `columns` overlap");

        let mut y = d.zeros::<f32>(Class::Scratch, 3).unwrap();
        let mut rows = |table: &Buffer, cols| {
            let table = matmul::Matrix::plain(table, 2, cols);
            gather::rows(&d, table, &index, ViewMut::row(&mut y), false)
        };
        says(rows(&x, 3), "gather: there is no row 7: there are 2, counted from 0");
        says(rows(&x, 2), "gather: `y` has shape (1, 3), expected (1, 2)");
        says(rows(&there, 3), "gather: `table` lives on another device");
    }

    #[test]
    fn a_mapped_file_is_read_only_and_ends_where_it_ends() {
        let path = std::env::temp_dir().join(format!("engraft-messages-{}", std::process::id()));
        std::fs::write(&path, [0u8; 10]).unwrap();
        let file = MappedFile::open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let d = Device::cpu(1).unwrap();
        let e = d.map(Class::Backbone, &file, 4, DType::F32, 2).unwrap_err();
        assert_eq!(e.to_string(), "map: the file has 10 bytes: not 2 elements of f32 from byte 4 on");
        let mut x = d.map(Class::Backbone, &file, 0, DType::F32, 2).unwrap();
        let read_only = "the elements are those of a mapped file, which is never changed";
        assert_eq!(x.write(&[1f32; 2]).unwrap_err().to_string(), format!("write: {read_only}"));
        assert_eq!(x.clear().unwrap_err().to_string(), format!("clear: {read_only}"));
    }
}
