//! What a pickle of tensors consists of.
use safetensors::Dtype;

/// A value. What holds others refers to them by number, in [`Values`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    None,
    Bool(bool),
    Int(i64),
    /// A whole number of more than eight bytes.
    Long(&'a [u8]),
    Text(&'a str),
    /// What no tensor is made of.
    Other,
    Global(Global),
    /// A tuple or a list.
    Sequence(usize),
    Dictionary(usize),
    Storage(usize),
    Tensor(usize),
}

/// A function or class of Python that pickles of tensors name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Global {
    OrderedDict,
    /// A tensor of (storage, offset, shape, strides, ..).
    Tensor,
    /// The same with a type of its elements behind the sixth argument, and a storage without one.
    TypedTensor,
    /// A tensor that trains, of (tensor, ..).
    Parameter,
    /// A tensor with attributes, of (function, class, arguments, ..).
    WithAttributes,
    /// A class of tensors.
    Class,
    /// A class of storages, and what they hold: bytes of any type if it is `None`.
    Storage(Option<Dtype>),
    Type(Dtype),
}

/// Everything that may be named: (module, name). The types of elements have a storage class and a
/// name each.
const GLOBALS: &[(&str, &str, Global)] = &[
    ("collections", "OrderedDict", Global::OrderedDict),
    ("torch._utils", "_rebuild_tensor", Global::Tensor),
    ("torch._utils", "_rebuild_tensor_v2", Global::Tensor),
    ("torch._utils", "_rebuild_tensor_v3", Global::TypedTensor),
    ("torch._utils", "_rebuild_parameter", Global::Parameter),
    ("torch._utils", "_rebuild_parameter_with_state", Global::Parameter),
    ("torch._tensor", "_rebuild_from_type_v2", Global::WithAttributes),
    ("torch", "Tensor", Global::Class),
    ("torch.nn.parameter", "Parameter", Global::Class),
    ("torch.storage", "UntypedStorage", Global::Storage(None)),
    ("torch", "UntypedStorage", Global::Storage(None)),
];
/// (storage class, type, elements).
const TYPES: &[(&str, &str, Dtype)] = &[
    ("FloatStorage", "float32", Dtype::F32),
    ("HalfStorage", "float16", Dtype::F16),
    ("BFloat16Storage", "bfloat16", Dtype::BF16),
    ("DoubleStorage", "float64", Dtype::F64),
    ("LongStorage", "int64", Dtype::I64),
    ("IntStorage", "int32", Dtype::I32),
    ("ShortStorage", "int16", Dtype::I16),
    ("CharStorage", "int8", Dtype::I8),
    ("ByteStorage", "uint8", Dtype::U8),
    ("BoolStorage", "bool", Dtype::BOOL),
    ("ComplexFloatStorage", "complex64", Dtype::C64),
    ("", "uint16", Dtype::U16),
    ("", "uint32", Dtype::U32),
    ("", "uint64", Dtype::U64),
    ("", "float8_e4m3fn", Dtype::F8_E4M3),
    ("", "float8_e5m2", Dtype::F8_E5M2),
    ("", "float8_e8m0fnu", Dtype::F8_E8M0),
];
impl Global {
    pub fn named(module: &str, name: &str) -> Result<Global, String> {
        if let Some((_, _, global)) = GLOBALS.iter().find(|(m, n, _)| (*m, *n) == (module, name)) {
            return Ok(*global);
        }
        let mut types = TYPES.iter().filter(|_| module == "torch" && !name.is_empty());
        let known = types.find_map(|(storage, dtype, t)| match name {
            n if n == *storage => Some(Global::Storage(Some(*t))),
            n if n == *dtype => Some(Global::Type(*t)),
            _ => None,
        });
        known.ok_or_else(|| {
            format!("it asks for `{module}.{name}`; a file of tensors alone is read, and nothing in it is executed")
        })
    }
}

/// Numbers that lie behind each other in a file.
#[derive(Clone, Copy, Debug)]
pub struct Storage<'a> {
    pub dtype: Option<Dtype>,
    /// Its name in the file.
    pub key: &'a str,
    /// How many elements it has.
    pub elements: usize,
    /// (first element, elements) of those that it shows, where it is a part of what the file calls
    /// `key`.
    pub part: Option<(usize, usize)>,
}
impl Storage<'_> {
    /// Bytes of an element.
    pub fn width(&self) -> usize {
        self.dtype.map_or(1, width)
    }
}
/// Bytes of an element.
pub fn width(dtype: Dtype) -> usize {
    dtype.bitsize() / 8
}

/// Some of a storage's elements.
#[derive(Clone, Debug)]
pub struct Strided {
    /// Number of the storage.
    pub storage: usize,
    pub dtype: Dtype,
    /// The first element.
    pub offset: usize,
    pub shape: Vec<usize>,
    /// By how many elements the next one in each dimension is further on.
    pub strides: Vec<usize>,
}

/// More dimensions than tensors have.
const MOST_DIMENSIONS: usize = 16;

/// All that values refer to.
#[derive(Debug, Default)]
pub struct Values<'a> {
    sequences: Vec<Vec<Value<'a>>>,
    /// Keys and values in turn.
    dictionaries: Vec<Vec<Value<'a>>>,
    pub storages: Vec<Storage<'a>>,
    pub tensors: Vec<Strided>,
}
impl<'a> Values<'a> {
    pub fn add_sequence(&mut self, items: Vec<Value<'a>>) -> Value<'a> {
        self.sequences.push(items);
        Value::Sequence(self.sequences.len() - 1)
    }
    pub fn add_dictionary(&mut self, items: Vec<Value<'a>>) -> Value<'a> {
        self.dictionaries.push(items);
        Value::Dictionary(self.dictionaries.len() - 1)
    }
    pub fn list(&self, value: Value<'a>) -> Result<&[Value<'a>], String> {
        match value {
            Value::Sequence(i) => Ok(&self.sequences[i]),
            _ => Err("a list is missing".into()),
        }
    }
    pub fn list_mut(&mut self, value: Value<'a>) -> Result<&mut Vec<Value<'a>>, String> {
        match value {
            Value::Sequence(i) => Ok(&mut self.sequences[i]),
            _ => Err("what should become longer is no list".into()),
        }
    }
    /// Keys and values in turn.
    pub fn dictionary(&self, value: Value<'a>) -> Option<&[Value<'a>]> {
        match value {
            Value::Dictionary(i) => Some(&self.dictionaries[i]),
            _ => None,
        }
    }
    pub fn dictionary_mut(&mut self, value: Value<'a>) -> Result<&mut Vec<Value<'a>>, String> {
        match value {
            Value::Dictionary(i) => Ok(&mut self.dictionaries[i]),
            _ => Err("what should have keys or attributes is no dictionary".into()),
        }
    }
    /// Lengths, strides or an offset.
    fn count(value: Value<'_>) -> Result<usize, String> {
        match value {
            Value::Int(n) => usize::try_from(n).map_err(|_| format!("{n} is no count of elements")),
            _ => Err("a count of elements is missing".into()),
        }
    }
    fn counts(&self, value: Value<'a>) -> Result<Vec<usize>, String> {
        let list = self.list(value)?;
        match list.len() <= MOST_DIMENSIONS {
            true => list.iter().map(|v| Values::count(*v)).collect(),
            false => Err(format!("a tensor has {} dimensions", list.len())),
        }
    }
    /// The storage of a persistent id: ("storage", class, key, device, elements), in the older
    /// layout with (key, first, elements) of a part of it.
    pub fn storage(&mut self, id: Value<'a>) -> Result<Value<'a>, String> {
        let wrong = || "what is kept outside of the pickle is no storage of a tensor".to_string();
        let (
            [Value::Text("storage"), Value::Global(Global::Storage(dtype)), Value::Text(key), _, elements],
            more,
        ) = self.list(id)?.split_first_chunk::<5>().ok_or_else(wrong)?
        else {
            return Err(wrong());
        };
        let part = match more {
            [] | [Value::None] => None,
            [view] => match *self.list(*view)? {
                [_, first, elements] => Some((Values::count(first)?, Values::count(elements)?)),
                _ => return Err(wrong()),
            },
            _ => return Err(wrong()),
        };
        let storage = Storage { dtype: *dtype, key, elements: Values::count(*elements)?, part };
        self.storages.push(storage);
        Ok(Value::Storage(self.storages.len() - 1))
    }
    /// What a function makes of its arguments, and how many bytes that holds.
    pub fn tensor(&mut self, function: Global, arguments: Value<'a>) -> Result<(Value<'a>, usize), String> {
        let wrong = |what: &str| Err(format!("a tensor is made of the wrong things: {what}"));
        let all = self.list(arguments)?;
        match (function, all) {
            (Global::Parameter, [tensor @ Value::Tensor(_), ..]) => Ok((*tensor, 0)),
            (Global::WithAttributes, [Value::Global(f), Value::Global(Global::Class), arguments, ..])
                if matches!(f, Global::Tensor | Global::TypedTensor) =>
            {
                let (f, arguments) = (*f, *arguments);
                self.tensor(f, arguments)
            }
            (
                Global::Tensor | Global::TypedTensor,
                [Value::Storage(storage), offset, shape, strides, more @ ..],
            ) => {
                let dtype = match (function, more) {
                    (Global::TypedTensor, [_, _, Value::Global(Global::Type(t)), ..]) => Some(*t),
                    (Global::Tensor, _) => self.storages[*storage].dtype,
                    _ => None,
                };
                let Some(dtype) = dtype else { return wrong("its elements have no type") };
                // what is to be conjugated or negated when it is read
                let flags = if function == Global::TypedTensor { more.get(3) } else { more.get(2) };
                if flags
                    .is_some_and(|f| self.dictionary(*f).is_none_or(|d| !d.is_empty()) && *f != Value::None)
                {
                    return wrong("it is conjugated or negated only when it is read");
                }
                let (shape, strides) = (self.counts(*shape)?, self.counts(*strides)?);
                if shape.len() != strides.len() {
                    return wrong("its shape and its strides have different lengths");
                }
                let bytes = size_of::<Strided>() + 2 * size_of_val(&*shape);
                let (storage, offset) = (*storage, Values::count(*offset)?);
                self.tensors.push(Strided { storage, dtype, offset, shape, strides });
                Ok((Value::Tensor(self.tensors.len() - 1), bytes))
            }
            _ => wrong("its arguments are others"),
        }
    }
}
