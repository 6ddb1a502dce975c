//! Files as `torch.save` writes them: a ZIP archive of a pickle and of the values.
use super::files::{StoredTensor, Tensors};

/// A file that holds these tensors; of two that are the same bytes the values are there once, as of
/// tied ones.
pub fn save(tensors: &Tensors) -> Vec<u8> {
    let mut storages: Vec<&StoredTensor> = vec![];
    let mut pickle = b"\x80\x02}(".to_vec();
    for (name, t) in tensors {
        let same = |s: &&StoredTensor| s.dtype == t.dtype && s.bytes == t.bytes;
        let key = storages.iter().position(same).unwrap_or_else(|| {
            storages.push(t);
            storages.len() - 1
        });
        let (storage, width) = match t.dtype {
            "F16" => ("HalfStorage", 2),
            "BF16" => ("BFloat16Storage", 2),
            "F64" => ("DoubleStorage", 8),
            _ => ("FloatStorage", 4),
        };
        text(&mut pickle, name);
        pickle.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        text(&mut pickle, "storage");
        pickle.extend(format!("ctorch\n{storage}\n").as_bytes());
        text(&mut pickle, &key.to_string());
        text(&mut pickle, "cpu");
        int(&mut pickle, t.bytes.len() / width);
        pickle.extend(b"tQ");
        int(&mut pickle, 0);
        let strides = (0..t.shape.len()).map(|d| t.shape[d + 1..].iter().product());
        for sides in [t.shape.clone(), strides.collect()] {
            pickle.push(b'(');
            sides.iter().for_each(|n| int(&mut pickle, *n));
            pickle.push(b't');
        }
        pickle.extend(b"\x89ccollections\nOrderedDict\n)RtR");
    }
    pickle.extend(b"u.");
    let mut entries = vec![("data.pkl".to_string(), pickle)];
    entries.extend(storages.iter().enumerate().map(|(i, t)| (format!("data/{i}"), t.bytes.clone())));
    entries.push(("version".into(), b"3\n".to_vec()));
    zip(&entries)
}
fn text(to: &mut Vec<u8>, text: &str) {
    to.push(b'X');
    to.extend((text.len() as u32).to_le_bytes());
    to.extend(text.as_bytes());
}
fn int(to: &mut Vec<u8>, n: usize) {
    to.push(b'J');
    to.extend((n as i32).to_le_bytes());
}
/// Entries that are stored as they are, values at multiples of 64.
fn zip(entries: &[(String, Vec<u8>)]) -> Vec<u8> {
    let (mut file, mut list) = (vec![], vec![]);
    for (name, bytes) in entries {
        let name = format!("archive/{name}");
        let at = file.len();
        let padding = (64 - (at + 30 + name.len() + 4) % 64) % 64;
        let sizes = [crc(bytes), bytes.len() as u32, bytes.len() as u32].map(u32::to_le_bytes).concat();
        let (len, extra) = ((name.len() as u16).to_le_bytes(), ((padding + 4) as u16).to_le_bytes());
        // version, flags, method, time, date
        let head = [&[0u8; 10], &sizes[..], &len].concat();
        file.extend([b"PK\x03\x04", &head[..], &extra, name.as_bytes(), b"FB"].concat());
        file.extend((padding as u16).to_le_bytes());
        file.extend(vec![0; padding]);
        file.extend(bytes);
        // no extra field, no comment, disk 0, attributes
        let tail = [&[0u8; 12][..], &(at as u32).to_le_bytes()].concat();
        list.extend([b"PK\x01\x02\0\0", &head[..], &tail, name.as_bytes()].concat());
    }
    let (start, count) = (file.len() as u32, (entries.len() as u16).to_le_bytes());
    let ends = [(list.len() as u32).to_le_bytes(), start.to_le_bytes()].concat();
    file.extend(&list);
    file.extend([b"PK\x05\x06\0\0\0\0", &count[..], &count, &ends, b"\0\0"].concat());
    file
}
fn crc(bytes: &[u8]) -> u32 {
    let step = |c: u32, _| if c & 1 == 1 { c >> 1 ^ 0xedb8_8320 } else { c >> 1 };
    !bytes.iter().fold(!0, |c, b| (0..8).fold(c ^ u32::from(*b), step))
}
