use super::*;
use crate::program::options::ScalingChoice;
use engraft::data::Column;
use engraft::text::batch::BatchSize;

fn parse(line: &str) -> Result<Arguments, String> {
    Arguments::try_parse_from(line.split(' ')).map_err(|error| error.to_string())
}

fn train(line: &str) -> Train {
    match parse(line).unwrap().command {
        Some(Command::Train(train)) => *train,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_command_line_is_sound() {
    Arguments::documented().debug_assert();
    assert!(parse("engraft").unwrap().command.is_none());
    assert_eq!(train("engraft train").options, Options::default());
}

#[test]
fn every_option_is_a_flag_with_help() {
    let mut command = Arguments::documented();
    let train = command.find_subcommand_mut("train").unwrap();
    for key in Options::keys() {
        let arg = train.get_arguments().find(|arg| arg.get_long() == Some(&key)).unwrap();
        assert!(arg.get_help().is_some(), "{key}");
    }
    let help = train.render_long_help().to_string();
    for part in ["Training:", "[default: 5e-4]", "[default: engraft-out]", "[default: houlsby]"] {
        assert!(help.contains(part), "{part}: {help}");
    }
}

#[test]
fn flags_are_read() {
    let line = "engraft train --model m --adapter double_seq_bn --reduction-factor 8,0=4 --scaling learned \
                --no-shuffle --ln-before=false --ln-after --lr 1e-3 --text-column 2";
    let options = train(line).options;
    assert_eq!(
        (options.adapter.map(|a| a.to_string()), options.scaling),
        (Some("double_seq_bn".into()), Some(ScalingChoice::Learned))
    );
    assert_eq!(
        (options.no_shuffle, options.ln_before, options.ln_after),
        (Some(true), Some(false), Some(true))
    );
    assert_eq!((options.lr, options.text_column), (Some(1e-3), Some(Column::Index(2))));
    assert!(parse("engraft train --layers 5-3").unwrap_err().contains("are no layers"));
    assert!(parse("engraft train --adapter lor").unwrap_err().contains("houlsby"));
    assert!(parse("engraft train --rank 8").is_err());
    let error = train("engraft train --lr -1").settings(Options::default()).unwrap_err().to_string();
    assert_eq!(error, "`lr` cannot be -1: it is a number above 0");
}

#[test]
fn flags_win_over_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("run.toml");
    std::fs::write(&file, "lr = 0.1\nseed = 7\n").unwrap();
    let presets = Options { seed: Some(1), epochs: Some(9), ..Options::default() };
    let line = format!("engraft train --lr 0.2 --config {}", file.display());
    let settings = train(&line).settings(presets).unwrap();
    assert_eq!((settings.lr, settings.seed, settings.epochs), (0.2, 7, Some(9)));
}

#[test]
fn the_other_commands_are_read() {
    assert!(parse("engraft eval --model m --adapter a --data d.tsv --json").is_ok());
    assert!(parse("engraft eval --model m --data d.tsv").unwrap_err().contains("--adapter"));
    let eval = |flags: &str| match parse(&format!("engraft eval --model m --adapter a --data d.tsv{flags}")) {
        Ok(Arguments { command: Some(Command::Eval(eval)) }) => Ok(eval.reading.batch()),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error),
    };
    assert_eq!(eval(""), Ok(BatchSize::Examples(64)));
    assert_eq!(eval(" --batch-size 8"), Ok(BatchSize::Examples(8)));
    assert_eq!(eval(" --batch-tokens 8"), Ok(BatchSize::Tokens(8)));
    assert!(eval(" --batch-size 0").is_err() && eval(" --batch-tokens 0").is_err());
    assert!(eval(" --batch-size 8 --batch-tokens 8").unwrap_err().contains("cannot be used with"));
    match parse("engraft predict --model m --adapter a --text x y --json").unwrap().command {
        Some(Command::Predict(predict)) => assert_eq!(predict.text, ["x", "y"]),
        other => panic!("{other:?}"),
    }
    assert!(parse("engraft predict --model m --adapter a").is_err(), "texts or a file");
    assert!(parse("engraft predict --model m --adapter a --text x --input f.tsv").is_err(), "not both");
    assert!(parse("engraft inspect --model m").is_ok());
    assert!(parse("engraft memory --model m --methods full,head --activations bf16 --measure").is_ok());
    assert!(parse("engraft memory --model m --methods lor").unwrap_err().contains("houlsby"));
    assert!(parse("engraft memory --model m --batch 0").is_err());
    assert!(parse("engraft memory --model m --json --csv").is_err());
    match parse("engraft quantize --model m --dtype nf4 --out q").unwrap().command {
        Some(Command::Quantize(q)) => assert_eq!(q.dtype, BackboneDtype::Nf4),
        other => panic!("{other:?}"),
    }
    assert!(parse("engraft quantize --model m --out q").unwrap_err().contains("--dtype"));
    assert!(parse("engraft quantize --model m --dtype int4 --out q").unwrap_err().contains("nf4"));
    assert!(parse("engraft forward --model m --ids i.json --out o.safetensors --grad").is_ok());
}
