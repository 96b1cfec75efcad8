"""Small random vision-language models of stock architectures, with processors made here."""

from pathlib import Path
from typing import Any

WORDS = [
    "<pad>",
    "<eos>",
    "<bos>",
    "<unk>",
    "<start_of_image>",
    "<end_of_image>",
    "<image_soft_token>",
    "<image>",
]
TEMPLATE = (
    "{% for m in messages %}<bos>{{ m['role'] }} : {% for p in m['content'] %}"
    "{% if p['type'] == 'image' %}IMAGE{% else %}{{ p['text'] }}{% endif %}{% endfor %}"
    "{% if m['role'] == 'assistant' %}<eos>{% endif %}\n{% endfor %}"
    "{% if add_generation_prompt %}<bos>assistant :{% endif %}"
)


def tokenizer(texts: list[str], image: str) -> Any:
    """Byte-level pairs learned from a few texts, with the special tokens of the models below."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE(unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    raw.train_from_iterator(
        texts,
        trainers.BpeTrainer(vocab_size=600, special_tokens=WORDS, initial_alphabet=alphabet),
    )
    made = PreTrainedTokenizerFast(
        tokenizer_object=raw,
        pad_token="<pad>",
        eos_token="<eos>",
        bos_token="<bos>",
        unk_token="<unk>",
        padding_side="left",
        extra_special_tokens={
            "boi_token": "<start_of_image>",
            "eoi_token": "<end_of_image>",
            "image_token": image,
        },
    )
    made.chat_template = TEMPLATE.replace(
        "IMAGE", "<start_of_image>" if image == "<image_soft_token>" else "<image>"
    )
    return made


def gemma3(folder: Path, texts: list[str]) -> Path:
    """Gemma 3: one input size, a fixed number of tokens a picture, two-way attention among them."""
    import torch
    from transformers import (
        Gemma3Config,
        Gemma3ForConditionalGeneration,
        Gemma3ImageProcessorPil,
        Gemma3Processor,
    )

    words = tokenizer(texts, "<image_soft_token>")
    looks = Gemma3ImageProcessorPil(size={"height": 32, "width": 32})
    processor = Gemma3Processor(looks, words, chat_template=words.chat_template, image_seq_length=4)
    ids = {name: words.convert_tokens_to_ids(name) for name in WORDS}
    config = Gemma3Config(
        text_config={**_text(words), "sliding_window": 64, "query_pre_attn_scalar": 16},
        vision_config={**_vision(32, 8), "model_type": "siglip_vision_model"},
        mm_tokens_per_image=4,
        boi_token_index=ids["<start_of_image>"],
        eoi_token_index=ids["<end_of_image>"],
        image_token_index=ids["<image_soft_token>"],
    )
    return _saved(Gemma3ForConditionalGeneration, config, processor, folder, torch)


def llava(folder: Path, texts: list[str]) -> Path:
    """LLaVA: CLIP's tower, each patch a token, centre crop."""
    import torch
    from transformers import (
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaImageProcessorPil,
        LlavaProcessor,
    )

    words = tokenizer(texts, "<image>")
    looks = LlavaImageProcessorPil(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    )
    processor = LlavaProcessor(
        looks,
        words,
        patch_size=8,
        vision_feature_select_strategy="default",
        chat_template=words.chat_template,
        num_additional_image_tokens=1,
    )
    config = LlavaConfig(
        text_config={**_text(words), "model_type": "llama"},
        vision_config={**_vision(32, 8), "model_type": "clip_vision_model"},
        image_token_index=words.convert_tokens_to_ids("<image>"),
    )
    return _saved(LlavaForConditionalGeneration, config, processor, folder, torch)


def llava_next(folder: Path, texts: list[str]) -> Path:
    """LLaVA-NeXT: a picture and its tiles, as many tokens as the tiles have."""
    import torch
    from transformers import (
        LlavaNextConfig,
        LlavaNextForConditionalGeneration,
        LlavaNextImageProcessorPil,
        LlavaNextProcessor,
    )

    words = tokenizer(texts, "<image>")
    pinpoints = [[32, 64], [64, 32], [64, 64]]
    looks = LlavaNextImageProcessorPil(
        size={"shortest_edge": 32},
        crop_size={"height": 32, "width": 32},
        image_grid_pinpoints=pinpoints,
    )
    processor = LlavaNextProcessor(
        looks,
        words,
        patch_size=8,
        vision_feature_select_strategy="default",
        chat_template=words.chat_template,
        num_additional_image_tokens=1,
    )
    config = LlavaNextConfig(
        text_config={**_text(words), "model_type": "llama"},
        vision_config={**_vision(32, 8), "model_type": "clip_vision_model"},
        image_grid_pinpoints=pinpoints,
        image_token_index=words.convert_tokens_to_ids("<image>"),
    )
    return _saved(LlavaNextForConditionalGeneration, config, processor, folder, torch)


BUILDERS = {"gemma3": gemma3, "llava": llava, "llava_next": llava_next}


def _text(words: Any) -> dict[str, Any]:
    return {
        "vocab_size": len(words),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "max_position_embeddings": 1024,
        "pad_token_id": words.pad_token_id,
        "eos_token_id": words.eos_token_id,
        "bos_token_id": words.bos_token_id,
    }


def _vision(side: int, patch: int) -> dict[str, Any]:
    return {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": side,
        "patch_size": patch,
    }


def _saved(kind: Any, config: Any, processor: Any, folder: Path, torch: Any) -> Path:
    torch.manual_seed(0)
    model = kind(config)
    model.generation_config.eos_token_id = processor.tokenizer.eos_token_id
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
