//! A cell of a typed column as the JSON value that `datasets` and pandas would write for it.
use super::super::object::not_finite;
use super::features::Feature;
use arrow_array::cast::AsArray;
use arrow_array::types::{
    Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type,
    UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef};
use arrow_schema::DataType;
use serde_json::{Map, Number, Value};

/// What stands in a row of a column. The error says what is wrong with it.
pub(super) fn value(column: &dyn Array, row: usize, feature: &Feature) -> Result<Value, String> {
    if column.is_null(row) {
        return Ok(Value::Null);
    }
    if let Some(number) = integer(column, row) {
        return class(number, feature);
    }
    let all = |elements: ArrayRef| {
        let of = if let Feature::List(of) = feature { of } else { &Feature::Plain };
        (0..elements.len()).map(|i| value(&elements, i, of)).collect::<Result<_, _>>().map(Value::Array)
    };
    Ok(match column.data_type() {
        DataType::Null => Value::Null,
        DataType::Boolean => column.as_boolean().value(row).into(),
        DataType::Utf8 => column.as_string::<i32>().value(row).into(),
        DataType::LargeUtf8 => column.as_string::<i64>().value(row).into(),
        DataType::Utf8View => column.as_string_view().value(row).into(),
        // the shortest text that stands for it in its own precision
        DataType::Float16 => float(column.as_primitive::<Float16Type>().value(row).to_f32()),
        DataType::Float32 => float(column.as_primitive::<Float32Type>().value(row)),
        DataType::Float64 => float(column.as_primitive::<Float64Type>().value(row)),
        DataType::List(_) => all(column.as_list::<i32>().value(row))?,
        DataType::LargeList(_) => all(column.as_list::<i64>().value(row))?,
        DataType::FixedSizeList(..) => all(column.as_fixed_size_list().value(row))?,
        DataType::ListView(_) => all(column.as_list_view::<i32>().value(row))?,
        DataType::LargeListView(_) => all(column.as_list_view::<i64>().value(row))?,
        DataType::Struct(fields) => {
            let columns = column.as_struct().columns();
            let mut object = Map::new();
            for (field, column) in fields.iter().zip(columns) {
                let of = match feature {
                    Feature::Fields(of) => of.get(field.name()).unwrap_or(&Feature::Plain),
                    _ => &Feature::Plain,
                };
                let of = value(column, row, of).map_err(|why| format!("`{}`: {why}", field.name()))?;
                object.insert(field.name().clone(), of);
            }
            object.into()
        }
        DataType::Dictionary(..) => {
            let dictionary = column.as_any_dictionary();
            let key = integer(dictionary.keys(), row).and_then(|key| usize::try_from(key).ok());
            match key.filter(|key| *key < dictionary.values().len()) {
                Some(key) => value(dictionary.values(), key, feature)?,
                None => return Err("it stands for no entry of its dictionary".into()),
            }
        }
        other => return Err(format!("its type is {other}, which is not read")),
    })
}

/// An integer as it is, or the name of its class.
fn class(number: i128, feature: &Feature) -> Result<Value, String> {
    let Feature::Class(names) = feature else {
        return Ok(Number::from_i128(number).map_or(Value::Null, Value::Number));
    };
    let name = usize::try_from(number).ok().and_then(|number| names.get(number));
    match name {
        Some(name) => Ok(name.as_str().into()),
        None if number == -1 => Ok(Value::Null), // it has no class
        None => Err(format!("{number} is the number of none of its {} classes", names.len())),
    }
}

fn integer(column: &dyn Array, row: usize) -> Option<i128> {
    Some(match column.data_type() {
        DataType::Int8 => column.as_primitive::<Int8Type>().value(row).into(),
        DataType::Int16 => column.as_primitive::<Int16Type>().value(row).into(),
        DataType::Int32 => column.as_primitive::<Int32Type>().value(row).into(),
        DataType::Int64 => column.as_primitive::<Int64Type>().value(row).into(),
        DataType::UInt8 => column.as_primitive::<UInt8Type>().value(row).into(),
        DataType::UInt16 => column.as_primitive::<UInt16Type>().value(row).into(),
        DataType::UInt32 => column.as_primitive::<UInt32Type>().value(row).into(),
        DataType::UInt64 => column.as_primitive::<UInt64Type>().value(row).into(),
        _ => return None,
    })
}

fn float(number: impl ToString) -> Value {
    let shortest = number.to_string().parse().ok();
    shortest.and_then(Number::from_f64).map_or_else(not_finite, Value::Number)
}
