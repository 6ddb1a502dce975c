//! From floats to another storage type.
use super::{Matrix, Scales, Storage, nf4, view::Floats};
use crate::{Buffer, Class, Cpu, DType, Device, Element, Error, Nf4Pair, Result};
use half::{bf16, f16};

const NAME: &str = "convert";
/// Rows at a time.
const ROWS: usize = 16;

/// A float that a matrix may come from.
trait Source: Element {
    fn wide(self) -> f32;
}
impl Source for f32 {
    #[inline(always)]
    fn wide(self) -> f32 {
        self
    }
}
impl Source for bf16 {
    #[inline(always)]
    fn wide(self) -> f32 {
        self.to_f32()
    }
}
impl Source for f16 {
    #[inline(always)]
    fn wide(self) -> f32 {
        self.to_f32()
    }
}

/// A matrix of f32, bf16 or f16 in another storage type, held for `class` on the device where it
/// is. Values are rounded to the nearest that the type has; they must be finite, and those beyond
/// the range of f16 or bf16 become infinite. Rows are converted in parallel; what comes out does
/// not depend on the threads. What is on a GPU is converted by the processor.
pub fn convert(from: Matrix<'_>, to: Storage, class: Class) -> Result<(Buffer, Option<Scales>)> {
    from.validate()?;
    let device = from.data.device();
    if matches!(device, Device::Cuda(_)) {
        let cpu = Device::cpu(0)?;
        let values = cpu.upload(Class::Scratch, &from.decode()?)?;
        let (data, scales) = convert(Matrix::plain(&values, from.rows, from.cols), to, class)?;
        return Ok((data.moved(device)?, scales.map(|s| s.moved(device)).transpose()?));
    }
    match from.data.dtype() {
        DType::F32 => from_floats::<f32>(device, from, to, class),
        DType::Bf16 => from_floats::<bf16>(device, from, to, class),
        DType::F16 => from_floats::<f16>(device, from, to, class),
        got => Err(Error::DType { kernel: NAME, argument: "from", expected: "f32, bf16 or f16", got }),
    }
}

/// Allocates, and on the CPU computes.
fn from_floats<E: Source>(
    device: &Device,
    from: Matrix<'_>,
    to: Storage,
    class: Class,
) -> Result<(Buffer, Option<Scales>)> {
    let (rows, cols) = (from.rows, from.cols);
    let source = || Ok::<_, Error>(from.floats(from.data.host::<E>()?));
    match to {
        Storage::F32 => floats::<E, f32>(device, from, class, |x| x),
        Storage::Bf16 => floats::<E, bf16>(device, from, class, bf16::from_f32),
        Storage::F16 => floats::<E, f16>(device, from, class, f16::from_f32),
        Storage::Int8 => {
            let mut data = device.alloc::<i8>(class, rows * cols)?;
            let mut scales = device.alloc::<f32>(class, rows)?;
            if let Device::Cpu(d) = device {
                int8(d, source()?, cols, data.host_mut()?, scales.host_mut()?);
            }
            Ok((data, Some(Scales::Rows(scales))))
        }
        Storage::Nf4 => {
            let blocks = rows * nf4::blocks(cols);
            let mut data = device.alloc::<Nf4Pair>(class, rows * nf4::pairs(cols))?;
            let mut codes = device.alloc::<u8>(class, blocks)?;
            let mut ranges = device.alloc::<f32>(class, nf4::ranges(blocks))?;
            let mut peaks = device.alloc::<f32>(Class::Scratch, blocks)?;
            if let Device::Cpu(d) = device {
                let scales = (codes.host_mut()?, ranges.host_mut()?, peaks.host_mut()?);
                four_bits(d, source()?, cols, data.host_mut()?, scales);
            }
            Ok((data, Some(Scales::Blocks { codes, ranges })))
        }
    }
}

fn floats<E: Source, T: Element>(
    device: &Device,
    from: Matrix<'_>,
    class: Class,
    round: impl Fn(f32) -> T + Sync + Send,
) -> Result<(Buffer, Option<Scales>)> {
    let mut data = device.alloc::<T>(class, from.rows * from.cols)?;
    if let Device::Cpu(d) = device {
        let source = from.floats(from.data.host::<E>()?);
        d.rows(data.host_mut::<T>()?, from.cols, ROWS, |first, piece| {
            for (i, to) in piece.chunks_mut(from.cols).enumerate() {
                to.iter_mut().zip(source.row(first + i, from.cols)).for_each(|(to, x)| *to = round(x.wide()));
            }
        });
    }
    Ok((data, None))
}

/// The largest magnitude.
fn peak<E: Source>(values: &[E]) -> f32 {
    values.iter().fold(0.0, |m, x| x.wide().abs().max(m))
}

fn int8<E: Source>(d: &Cpu, from: Floats<'_, E>, cols: usize, data: &mut [i8], scales: &mut [f32]) {
    d.rows(scales, 1, ROWS, |first, piece| {
        for (i, scale) in piece.iter_mut().enumerate() {
            *scale = peak(from.row(first + i, cols)) / 127.0;
        }
    });
    let scales = &*scales;
    d.rows(data, cols, ROWS, |first, piece| {
        for (i, to) in piece.chunks_mut(cols).enumerate() {
            let scale = scales[first + i];
            for (to, x) in to.iter_mut().zip(from.row(first + i, cols)) {
                // a row of zeros, or of numbers so small that their scale is none, is zero
                let q = if scale > 0.0 { (x.wide() / scale).round_ties_even() } else { 0.0 };
                *to = q.clamp(-127.0, 127.0) as i8;
            }
        }
    });
}

/// `scales`: codes and ranges, and room for the largest magnitude of every block.
fn four_bits<E: Source>(
    d: &Cpu,
    from: Floats<'_, E>,
    cols: usize,
    data: &mut [Nf4Pair],
    (codes, ranges, peaks): (&mut [u8], &mut [f32], &mut [f32]),
) {
    let blocks = nf4::blocks(cols);
    d.rows(peaks, blocks, ROWS, |first, piece| {
        for (i, to) in piece.chunks_mut(blocks).enumerate() {
            let row = from.row(first + i, cols);
            to.iter_mut().zip(row.chunks(nf4::BLOCK)).for_each(|(to, block)| *to = peak(block));
        }
    });
    // few numbers: not worth sharing
    let groups = peaks.chunks(nf4::GROUP).zip(codes.chunks_mut(nf4::GROUP));
    for ((peaks, codes), to) in groups.zip(ranges.chunks_exact_mut(2)) {
        let range = nf4::range(peaks);
        (to[0], to[1]) = range;
        codes.iter_mut().zip(peaks).for_each(|(to, scale)| *to = nf4::step(range, *scale));
    }
    let (codes, ranges, stride) = (&*codes, &*ranges, nf4::pairs(cols));
    d.rows(data, stride, ROWS, |first, piece| {
        for (i, to) in piece.chunks_mut(stride).enumerate() {
            let row = from.row(first + i, cols);
            let lines = row.chunks(nf4::BLOCK).zip(to.chunks_mut(nf4::BLOCK / 2));
            for (b, (block, to)) in lines.enumerate() {
                let at = (first + i) * blocks + b;
                let g = at / nf4::GROUP * 2;
                let scale = nf4::scale((ranges[g], ranges[g + 1]), codes[at]);
                let code = |x: &E| if scale == 0.0 { nf4::ZERO } else { nf4::code(x.wide() / scale) };
                for (to, pair) in to.iter_mut().zip(block.chunks(2)) {
                    *to = Nf4Pair(code(&pair[0]) | pair.get(1).map_or(nf4::ZERO, code) << 4);
                }
            }
        }
    });
}
