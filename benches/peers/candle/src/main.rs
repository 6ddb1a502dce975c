//! The forward pass of a BERT in candle, timed: the frozen model alone, since candle has no
//! adapters. The batches are those of forward.py's other sides. The last line printed is a JSON
//! object.
use anyhow::{Error, Result};
use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::bert::{BertModel, Config};
use clap::Parser;
use serde_json::json;
use std::{path::PathBuf, time::Instant};
use tokenizers::{PaddingParams, Tokenizer, TruncationParams};

#[derive(Parser)]
struct Arguments {
    /// A BERT as a Hugging Face directory
    #[arg(long)]
    model: PathBuf,
    /// TSV with a header; the first column is the text
    #[arg(long)]
    data: PathBuf,
    #[arg(long, default_value_t = 32)]
    batch_size: usize,
    #[arg(long, default_value_t = 128)]
    max_length: usize,
}

fn main() -> Result<()> {
    let a = Arguments::parse();
    let file = |name: &str| a.model.join(name);
    let config: Config = serde_json::from_str(&std::fs::read_to_string(file("config.json"))?)?;
    let weights = candle_core::safetensors::load(file("model.safetensors"), &Device::Cpu)?;
    let model = BertModel::load(VarBuilder::from_tensors(weights, DType::F32, &Device::Cpu), &config)?;
    let mut tokenizer = Tokenizer::from_file(file("tokenizer.json")).map_err(Error::msg)?;
    tokenizer.with_padding(Some(PaddingParams::default()));
    let truncation = TruncationParams { max_length: a.max_length, ..Default::default() };
    tokenizer.with_truncation(Some(truncation)).map_err(Error::msg)?;

    let text = std::fs::read_to_string(&a.data)?;
    let lines: Vec<&str> = text.lines().skip(1).filter_map(|l| l.split('\t').next()).collect();
    let batches = lines.chunks(a.batch_size).map(|lines| {
        let rows = tokenizer.encode_batch(lines.to_vec(), true).map_err(Error::msg)?;
        let (n, length) = (rows.len(), rows.iter().map(|r| r.get_ids().len()).max().unwrap_or(0));
        let tensor = |of: fn(&tokenizers::Encoding) -> &[u32]| {
            let values: Vec<u32> = rows.iter().flat_map(|r| of(r)).copied().collect();
            Tensor::from_vec(values, (n, length), &Device::Cpu)
        };
        let mask = tensor(|r| r.get_attention_mask())?;
        Ok((tensor(|r| r.get_ids())?, tensor(|r| r.get_type_ids())?, mask))
    });
    let batches: Vec<_> = batches.collect::<Result<_>>()?;
    let (start, mut sum) = (Instant::now(), 0.0);
    for (ids, types, mask) in &batches {
        let hidden = model.forward(ids, types, Some(mask))?;
        sum += hidden.narrow(1, 0, 1)?.sum_all()?.to_scalar::<f32>()?;
    }
    let seconds = start.elapsed().as_secs_f64();
    println!("{}", json!({ "seconds": seconds, "batches": batches.len(), "sum": sum }));
    Ok(())
}
