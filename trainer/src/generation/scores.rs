//! From the scores of a model to those that a token is chosen by.
use super::{
    numbers::log_softmax,
    rules::{self, Place},
    settings::Settings,
    warp,
};

/// Applies all rules to the scores of the next token, in the order of `transformers`'
/// `_get_logits_processor`: logits of a model, or in a beam search log-probabilities.
pub fn process(s: &Settings, at: &Place<'_>, x: &mut [f32]) {
    rules::repetition(1.0 / s.encoder_repetition_penalty, at.source, x);
    rules::repetition(s.repetition_penalty, at.ids, x);
    rules::no_repeat(s.no_repeat_ngram_size, at.ids, at.ids, x);
    rules::no_repeat(s.encoder_no_repeat_ngram_size, at.source, at.ids, x);
    rules::bad_words(s, at.ids, x);
    rules::least_length(s, at, x);
    rules::forced_begin(s, at, x);
    rules::forced_end(s, at, x);
    rules::valid(s, x);
    rules::decay(s, at, x);
    rules::suppressed(s, x);
    rules::suppressed_first(s, at, x);
    if s.do_sample {
        warp::temperature(s, x);
        warp::top_k(s, x);
        warp::top_p(s, x);
        warp::min_p(s, x);
    }
    if s.renormalize_logits {
        log_softmax(x);
    }
}
