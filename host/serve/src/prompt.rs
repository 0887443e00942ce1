//! Prompts, and questions about them, by a tier's template and tokenizer.

use aio_core::ProbeResult;
use aio_engine::Tier;
use aio_engine::chat::{ChatError, Message};
use aio_engine::tokenizer::SpecialTokens;

use crate::error::ServeError;
use crate::request::Prompt;

/// The prompt's text, as the client wrote it.
pub(crate) fn text(prompt: &Prompt) -> String {
    match prompt {
        Prompt::Raw(text) => text.clone(),
        Prompt::Chat(messages) => {
            let texts: Vec<&str> = messages.iter().map(|m| m.content.as_str()).collect();
            texts.join("\n\n")
        }
    }
}

pub(crate) fn probe_result(tier: u32, mass: &[f64], seconds: f64) -> ProbeResult {
    let total: f64 = mass.iter().sum();
    // Where no answer has any mass to speak of, none is likelier than another.
    let share = |m: &f64| if total > 1e-12 { m / total } else { 1.0 / mass.len() as f64 };
    let probabilities: Vec<f64> = mass.iter().map(share).collect();
    let entropy: f64 = probabilities.iter().filter(|&&p| p > 0.0).map(|p| -p * p.ln()).sum();
    ProbeResult {
        tier,
        probabilities: probabilities.iter().map(|&p| p as f32).collect(),
        other: (1.0 - total).clamp(0.0, 1.0) as f32,
        entropy: entropy as f32,
        milliseconds: (seconds * 1e3) as f32,
    }
}

/// The prompt by a tier's tokenizer.
pub(crate) fn encode(tier: &Tier, prompt: &Prompt) -> Result<Vec<u32>, ServeError> {
    let tokens = match prompt {
        Prompt::Chat(messages) => encode_chat(tier, messages)?,
        Prompt::Raw(text) => encode_raw(tier, text)?,
    };
    if tokens.is_empty() { Err(ServeError::EmptyPrompt) } else { Ok(tokens) }
}

fn encode_chat(tier: &Tier, messages: &[Message]) -> Result<Vec<u32>, ServeError> {
    let template =
        tier.template().ok_or_else(|| ServeError::NoTemplate { tier: tier.name().to_owned() })?;
    Ok(template.encode(tier.tokenizer(), messages, true)?)
}

fn encode_raw(tier: &Tier, text: &str) -> Result<Vec<u32>, ServeError> {
    let tokenizer = tier.tokenizer();
    let mut tokens: Vec<u32> =
        tokenizer.bos().filter(|_| tokenizer.adds_bos()).into_iter().collect();
    tokens.extend(tokenizer.encode(text, SpecialTokens::AsText)?);
    Ok(tokens)
}

/// The prompt with a question after it: a further user turn where the template
/// allows two in a row, else part of the last one.
pub(crate) fn encode_question(
    tier: &Tier,
    prompt: &Prompt,
    question: &str,
) -> Result<Vec<u32>, ServeError> {
    let messages = match prompt {
        Prompt::Raw(text) => return encode_raw(tier, &format!("{text}\n\n{question}\n")),
        Prompt::Chat(messages) => messages,
    };
    let mut asked = messages.clone();
    asked.push(Message::user(question));
    match encode_chat(tier, &asked) {
        Err(ServeError::Chat(ChatError::Render { .. })) => {
            let mut merged = messages.clone();
            if let Some(last) = merged.last_mut() {
                last.content = format!("{}\n\n{question}", last.content);
            }
            encode_chat(tier, &merged)
        }
        other => other,
    }
}

/// The tokens that each answer may begin with: as it is, and after a space.
/// `None` when two answers share one.
pub(crate) fn first_tokens(
    tier: &Tier,
    answers: &[String],
) -> Result<Option<Vec<Vec<u32>>>, ServeError> {
    let mut all = Vec::new();
    let mut firsts = Vec::new();
    for answer in answers {
        let mut tokens = Vec::new();
        for text in [answer.clone(), format!(" {answer}")] {
            let encoded = tier.tokenizer().encode(&text, SpecialTokens::AsText)?;
            if let Some(&first) = encoded.first()
                && !tokens.contains(&first)
            {
                tokens.push(first);
            }
        }
        if tokens.is_empty() || tokens.iter().any(|t| all.contains(t)) {
            return Ok(None);
        }
        all.extend(&tokens);
        firsts.push(tokens);
    }
    Ok(Some(firsts))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_are_of_the_answers_and_entropy_in_nats() {
        let result = probe_result(0, &[0.3, 0.1], 0.002);
        assert_eq!(result.probabilities, [0.75, 0.25]);
        assert!((result.other - 0.6).abs() < 1e-6);
        assert!((result.entropy - 0.562_335).abs() < 1e-5);
        assert_eq!(result.milliseconds, 2.0);
    }

    #[test]
    fn no_mass_on_any_answer_is_full_uncertainty() {
        let result = probe_result(0, &[0.0, 0.0], 0.0);
        assert_eq!((result.probabilities, result.other), (vec![0.5, 0.5], 1.0));
    }
}
