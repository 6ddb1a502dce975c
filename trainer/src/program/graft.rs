//! The adapter that options describe: a configuration string, and short forms for fields of it.
use super::options::{AdapterChoice, AdapterInit, PlacementChoice, ReductionFactor, ScalingChoice, Settings};
use engraft::{
    Error, Result,
    adapters::{Config, Fields, Reduction, parse},
    choice::Choice,
    learner::Backbone,
};
use serde_json::{Value, json};

/// The adapter that the settings describe; none if there is to be none.
pub fn adapter_config(s: &Settings, backbone: &Backbone) -> Result<Option<Box<dyn Config>>> {
    let Some(AdapterChoice::Of(text)) = &s.adapter else { return Ok(None) };
    let mut fields = shape(s.bottleneck, s.reduction_factor.as_ref(), backbone)?;
    if let Some(p) = s.placement {
        fields.insert("mh_adapter".into(), (p != PlacementChoice::Output).into());
        fields.insert("output_adapter".into(), (p != PlacementChoice::Attention).into());
    }
    let scaling = s.scaling.map(|s| match s {
        ScalingChoice::Fixed(x) => json!(x),
        ScalingChoice::Learned | ScalingChoice::Channel => s.to_string().into(),
    });
    let init = s.adapter_init.map(|i: AdapterInit| i.name().replace('-', "_"));
    let given: [(&str, Option<Value>); 6] = [
        ("non_linearity", s.non_linearity.clone().map(Into::into)),
        ("dropout", s.adapter_dropout.map(Into::into)),
        ("scaling", scaling),
        ("ln_before", s.ln_before.map(Into::into)),
        ("ln_after", s.ln_after.map(Into::into)),
        ("init_weights", init.map(Into::into)),
    ];
    fields.extend(given.into_iter().filter_map(|(name, value)| Some((name.to_string(), value?))));
    if s.layers.is_some() || s.leave_out.is_some() {
        fields.insert("leave_out".into(), left_out(s, backbone)?.into());
    }
    Ok(Some(parse(text, &fields)?))
}

/// The layers that get no adapter, as far as options say it.
pub fn left_out(s: &Settings, backbone: &Backbone) -> Result<Vec<usize>> {
    let layers = backbone.model().info().layers;
    let (option, chosen, keep) = match (&s.layers, &s.leave_out) {
        (Some(chosen), _) => ("layers", chosen, true),
        (None, Some(chosen)) => ("leave-out", chosen, false),
        (None, None) => return Ok(vec![]),
    };
    match chosen.last() < layers {
        true => Ok((0..layers).filter(|l| chosen.contains(*l) != keep).collect()),
        false => Err(no_layer(option, chosen.last(), layers)),
    }
}

/// The field that says how narrow a bottleneck is, if one of the options for it is given.
pub fn shape(
    bottleneck: Option<usize>,
    factor: Option<&ReductionFactor>,
    backbone: &Backbone,
) -> Result<Fields> {
    let info = backbone.model().info();
    let reduction = match (bottleneck, factor) {
        (Some(width), _) => Reduction::to_width(info.channels, width),
        (None, Some(r)) => reduction(r, info.layers)?,
        (None, None) => return Ok(Fields::new()),
    };
    Ok(Fields::from_iter([("reduction_factor".to_string(), json!(reduction))]))
}
/// A reduction factor as AdapterHub's configuration has it, for a model of so many layers.
fn reduction(r: &ReductionFactor, layers: usize) -> Result<Reduction> {
    if let Some(l) = r.layers.keys().find(|l| **l >= layers) {
        return Err(no_layer("reduction-factor", *l, layers));
    }
    if r.layers.is_empty() {
        return Ok(Reduction::Factor(r.default));
    }
    let one = |(k, v): (&usize, &f64)| (k.to_string(), *v);
    Ok(Reduction::PerLayer(r.layers.iter().map(one).chain([("default".into(), r.default)]).collect()))
}
fn no_layer(option: &'static str, layer: usize, layers: usize) -> Error {
    Error::Option {
        option,
        value: format!("layer {layer}"),
        why: format!("the model has {layers} layers, counted from 0"),
    }
}
