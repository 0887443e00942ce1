//! From a conversation to the tokens of a prompt, by the chat template that a GGUF file
//! carries.
//!
//! Templates are Jinja as Hugging Face runs it; `environment` makes minijinja behave so.
//! This module must not know sampling, tiers or where messages come from.
//!
//! **What people write never steers the model.** A message that contains `<|im_end|>`
//! must not end its own turn. So before rendering, every control token that stands in a
//! message's content, and every piece at its end that could become one together with
//! what follows, is broken up by a *mark*: a private-use character that occurs in no
//! message and not in the template. Templates may trim, strip and concatenate contents,
//! the marks stay where they are. Control tokens are then recognised in the marked text,
//! and the marks taken out of what is left before it is encoded as plain text. Where no
//! message holds such text, which is nearly always, no mark is made and the ids are those
//! of the rendered text, byte for byte.
//!
//! Limits: a template that measures, compares or takes apart contents sees the marks; a
//! template that writes the first half of a control token right before a content would
//! let the content finish it (none does); and a control token of a single character
//! could not be broken up (no known vocabulary has one).

mod environment;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::fmt;

use minijinja::value::Serde;
use minijinja::{Environment, Value, context};
use serde::{Deserialize, Serialize};

use crate::tokenizer::{Metadata, SpecialTokens, Tokenizer, TokenizerError, metadata_string};

const TEMPLATE: &str = "tokenizer.chat_template";

/// For models that have ChatML's tokens and no template.
const CHATML: &str = "{% for message in messages %}\
    {{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}\
    {% endfor %}\
    {% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

/// Who says something in a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Instructions for the whole conversation.
    System,
    /// The person or program that asks.
    User,
    /// The model.
    Assistant,
    /// The result of a tool that the model called.
    Tool,
}

impl Role {
    /// The role's name in templates and in the HTTP interface.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::Tool => "tool",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Who says it.
    pub role: Role,
    /// What is said, as plain text.
    pub content: String,
}

impl Message {
    /// A message of the given role.
    pub fn new(role: Role, content: impl Into<String>) -> Message {
        Message { role, content: content.into() }
    }

    /// What the person or program asks.
    pub fn user(content: impl Into<String>) -> Message {
        Message::new(Role::User, content)
    }

    /// Instructions for the whole conversation.
    pub fn system(content: impl Into<String>) -> Message {
        Message::new(Role::System, content)
    }

    /// What the model answered before.
    pub fn assistant(content: impl Into<String>) -> Message {
        Message::new(Role::Assistant, content)
    }
}

/// Why a conversation could not be put into a prompt.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChatError {
    /// The template is not valid Jinja, or uses what is not supported.
    #[error("the model's chat template cannot be read, so give the prompt as plain text: {reason}")]
    Template {
        /// What is wrong and where.
        reason: String,
    },
    /// The template rejects the conversation, or fails on it.
    #[error(
        "the model's chat template refuses this conversation, so change its messages: {reason}"
    )]
    Render {
        /// The template's own words, or what failed and where.
        reason: String,
    },
    /// The contents use every private-use character there is.
    #[error("the messages use every private-use character of Unicode, so remove some from them")]
    NoMark,
    /// The tokenizer or its metadata failed.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
}

/// A model's chat template, ready to run.
pub struct ChatTemplate {
    environment: Environment<'static>,
    source: String,
    bos: String,
    eos: String,
}

impl fmt::Debug for ChatTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChatTemplate").field("source", &self.source).finish_non_exhaustive()
    }
}

impl ChatTemplate {
    /// The chat template of a GGUF file; plain ChatML where the file has none but its
    /// vocabulary has ChatML's control tokens; `None` where it has neither, so that the
    /// model cannot chat.
    ///
    /// # Errors
    /// When the template is not valid.
    pub fn from_gguf(
        metadata: &Metadata,
        tokenizer: &Tokenizer,
    ) -> Result<Option<ChatTemplate>, ChatError> {
        let has = |text| tokenizer.id_of(text).is_some_and(|id| tokenizer.is_control(id));
        let source = match metadata_string(metadata, TEMPLATE)? {
            Some(source) => source,
            None if has("<|im_start|>") && has("<|im_end|>") => CHATML,
            None => return Ok(None),
        };
        let text = |id: Option<u32>| match id {
            Some(id) => String::from_utf8_lossy(tokenizer.token_bytes(id)).into_owned(),
            None => String::new(),
        };
        let (bos, eos) = (text(tokenizer.bos()), text(tokenizer.eos()));
        ChatTemplate::new(source.to_owned(), bos, eos).map(Some)
    }

    fn new(source: String, bos: String, eos: String) -> Result<ChatTemplate, ChatError> {
        let environment = environment::new(&source)
            .map_err(|error| ChatError::Template { reason: environment::explain(&error) })?;
        Ok(ChatTemplate { environment, source, bos, eos })
    }

    /// Lets the template know the time, in seconds since 1970 UTC: some write the date
    /// into the prompt. Without it, templates find no `strftime_now` and use their
    /// default, so that a prompt does not depend on the day.
    #[must_use]
    pub fn with_now(mut self, unix_seconds: i64) -> ChatTemplate {
        environment::add_clock(&mut self.environment, unix_seconds);
        self
    }

    /// The conversation as text, for people to read. What goes to the model is
    /// [`ChatTemplate::encode`], for this text does not tell a control token that the
    /// template wrote from one that a message contains.
    ///
    /// # Errors
    /// [`ChatError::Render`] when the template rejects the conversation, for example
    /// because roles do not alternate, or fails.
    pub fn render(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
    ) -> Result<String, ChatError> {
        self.environment
            .get_template(environment::NAME)
            .and_then(|template| {
                template.render(context! {
                    messages => Serde(messages),
                    add_generation_prompt,
                    bos_token => self.bos.as_str(),
                    eos_token => self.eos.as_str(),
                    tools => Value::from(()),
                    documents => Value::from(()),
                })
            })
            .map_err(|error| ChatError::Render { reason: environment::explain(&error) })
    }

    /// The conversation as the ids to feed the model, BOS included where it expects one.
    /// With `add_generation_prompt` they end where the model's answer begins.
    ///
    /// Only the template's own text yields control tokens; see the module's notes.
    ///
    /// # Errors
    /// As [`ChatTemplate::render`], and when the tokenizer fails.
    pub fn encode(
        &self,
        tokenizer: &Tokenizer,
        messages: &[Message],
        add_generation_prompt: bool,
    ) -> Result<Vec<u32>, ChatError> {
        let controls: Vec<&str> = tokenizer.control_tokens().collect();
        let suspect =
            messages.iter().any(|message| !breaks(&message.content, &controls).is_empty());
        let mut ids = if suspect {
            let mark = self.unused_character(messages)?;
            let marked: Vec<Message> = messages
                .iter()
                .map(|message| {
                    let content = break_up(&message.content, &controls, mark);
                    Message::new(message.role, content)
                })
                .collect();
            let text = self.render(&marked, add_generation_prompt)?;
            tokenizer.encode_marked(&text, mark)?
        } else {
            let text = self.render(messages, add_generation_prompt)?;
            tokenizer.encode(&text, SpecialTokens::Parse)?
        };
        // Many templates write BOS themselves; it is wanted once.
        if let Some(bos) = tokenizer.bos().filter(|_| tokenizer.adds_bos())
            && ids.first() != Some(&bos)
        {
            ids.insert(0, bos);
        }
        Ok(ids)
    }

    /// A private-use character that occurs neither in the messages nor in the template.
    fn unused_character(&self, messages: &[Message]) -> Result<char, ChatError> {
        ('\u{F0000}'..='\u{FFFFD}')
            .chain('\u{100000}'..='\u{10FFFD}')
            .find(|&mark| {
                !self.source.contains(mark)
                    && !messages.iter().any(|message| message.content.contains(mark))
            })
            .ok_or(ChatError::NoMark)
    }
}

/// Where `content` must be broken up: byte offsets behind the first character of every
/// control token in it, and of every beginning of one at its end.
fn breaks(content: &str, controls: &[&str]) -> Vec<usize> {
    // A template may trim the content, and what it writes next may then complete what
    // stands before the white space.
    let trimmed = content.trim_end();
    let mut firsts: Vec<char> = controls.iter().filter_map(|token| token.chars().next()).collect();
    firsts.sort_unstable();
    firsts.dedup();
    content
        .match_indices(firsts.as_slice())
        .filter(|&(at, _)| {
            let rest = &content[at..];
            let last = trimmed.get(at..).unwrap_or_default();
            controls.iter().any(|token| {
                rest.starts_with(token)
                    || token.starts_with(rest)
                    || (!last.is_empty() && token.starts_with(last))
            })
        })
        .map(|(at, first)| at + first.len())
        .collect()
}

fn break_up<'c>(content: &'c str, controls: &[&str], mark: char) -> Cow<'c, str> {
    let breaks = breaks(content, controls);
    if breaks.is_empty() {
        return Cow::Borrowed(content);
    }
    let mut marked = String::with_capacity(content.len() + breaks.len() * mark.len_utf8());
    let mut done = 0;
    for at in breaks {
        marked.push_str(&content[done..at]);
        marked.push(mark);
        done = at;
    }
    marked.push_str(&content[done..]);
    Cow::Owned(marked)
}
