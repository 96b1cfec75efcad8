"""Chat messages to token ids, and from one turn to the next without re-tokenising what was said."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from taskgym.envs import Messages

if TYPE_CHECKING:
    from taskgym.agents.vision import Seen

# For tokenizers without a template, such as base models': the text as it is, EOS after each answer.
PLAIN_TEMPLATE = (
    "{% for message in messages %}{{ message['content'] }}"
    "{{ eos_token if message['role'] == 'assistant' else '\n' }}{% endfor %}"
)
_SAID = "taskgym-said-this"  # stands for the sampled tokens while the template is rendered


class Renderer:
    """Renders observations with a tokenizer's chat template.

    The template is applied to what the env says, never to what the policy said: the tokens of
    turn n+1 start with exactly the prompt and the sampled tokens of turn n.
    """

    def __init__(self, tokenizer: Any):
        self.tokenizer = tokenizer
        self.template = tokenizer.chat_template or PLAIN_TEMPLATE
        self._text_ids = lru_cache(maxsize=4096)(self._encode)

    def opening(self, messages: Messages) -> tuple[int, ...]:
        """The ids of an episode's first prompt, up to where the policy begins to speak."""
        return self._text_ids(self._render(messages))

    def seen(self, messages: Messages) -> Seen | None:
        """The pictures of an episode's first prompt; a text model is shown none."""
        return None

    def continuation(self, messages: Messages, said: tuple[int, ...]) -> tuple[int, ...]:
        """The ids that follow a completion: the end of its turn, the new messages, the next cue.

        Args:
            messages: What the env said in answer, and only that.
            said: The sampled tokens; a stop token they end in is not repeated.
        """
        asked = {"role": "user", "content": "?"}
        text = self._render([asked, {"role": "assistant", "content": _SAID}, *messages])
        after = text[text.index(_SAID) + len(_SAID) :]
        ids = self._text_ids(after)
        return ids[1:] if said and ids and ids[0] == said[-1] else ids

    def reply(self, text: str) -> tuple[int, ...]:
        """The ids of a whole completion that ends in EOS, for supervised examples."""
        return (*self._encode(text), self.tokenizer.eos_token_id)

    def cue(self) -> str:
        """What the template writes where the policy shall begin to speak."""
        asked: Messages = [{"role": "user", "content": "?"}]
        return self._render(asked).removeprefix(self._render(asked, cue=False))

    def _render(self, messages: Messages, cue: bool = True) -> str:
        text: str = self.tokenizer.apply_chat_template(
            messages, chat_template=self.template, tokenize=False, add_generation_prompt=cue
        )
        return text

    def _encode(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer.encode(text, add_special_tokens=False))


def stop_ids(tokenizer: Any, generation_config: Any) -> frozenset[int]:
    """Every token that ends a turn: the tokenizer's EOS and those of the generation config.

    Instruct models often end a turn with another token than the tokenizer's EOS and name it only
    in their generation config.
    """
    configured = getattr(generation_config, "eos_token_id", None)
    more = configured if isinstance(configured, list) else [configured]
    return frozenset(i for i in [tokenizer.eos_token_id, *more] if i is not None)
