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
    "<|image_pad|>",
    "<|video_pad|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<fake_token_around_image>",
    "<global-img>",
    "<end_of_utterance>",
    "<video>",
    *(f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)),
]
PLACEHOLDERS = {
    "<image_soft_token>": "<start_of_image>",
    "<image>": "<image>",
    "<|image_pad|>": "<|vision_start|><|image_pad|><|vision_end|>",
}
TEMPLATE = (
    "{% for m in messages %}<bos>{{ m['role'] }} : {% for p in m['content'] %}"
    "{% if p['type'] == 'image' %}IMAGE{% else %}{{ p['text'] }}{% endif %}{% endfor %}"
    "{% if m['role'] == 'assistant' %}<eos>{% endif %}\n{% endfor %}"
    "{% if add_generation_prompt %}<bos>assistant :{% endif %}"
)


def tokenizer(texts: list[str], image: str) -> Any:
    """Byte-level pairs learned from a few texts, with the special tokens of the models below."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE(unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    raw.train_from_iterator(
        texts,
        trainers.BpeTrainer(vocab_size=600, special_tokens=WORDS, initial_alphabet=alphabet),
    )
    # Gemma's tokenizer has lines' ends as tokens, and vLLM looks them up.
    raw.add_tokens([AddedToken("\n" * n, special=False, normalized=False) for n in (1, 2, 3, 4)])
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
    made.chat_template = TEMPLATE.replace("IMAGE", PLACEHOLDERS[image])
    return made


def gemma3(folder: Path, texts: list[str], head_dim: int = 16) -> Path:
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
        text_config={
            **_text(words, head_dim),
            "sliding_window": 64,
            "query_pre_attn_scalar": head_dim,
        },
        vision_config={**_vision(32, 8, head_dim), "model_type": "siglip_vision_model"},
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


def qwen2_5_vl(folder: Path, texts: list[str]) -> Path:
    """Qwen2.5-VL: patches in any number, positions in three dimensions."""
    import torch
    from transformers import (
        Qwen2_5_VLConfig,
        Qwen2_5_VLForConditionalGeneration,
        Qwen2_5_VLProcessor,
    )

    words = tokenizer(texts, "<|image_pad|>")
    looks = {"patch_size": 14, "window_size": 112, "fullatt_block_indexes": [1]}
    config = Qwen2_5_VLConfig(**_qwen(words, looks))
    processor = _qwen_processor(Qwen2_5_VLProcessor, words, 14)
    return _saved(Qwen2_5_VLForConditionalGeneration, config, processor, folder, torch)


def qwen3_vl(folder: Path, texts: list[str]) -> Path:
    """Qwen3-VL: the same with features of several depths."""
    import torch
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration, Qwen3VLProcessor

    words = tokenizer(texts, "<|image_pad|>")
    looks = {
        "patch_size": 16,
        "num_position_embeddings": 64,
        "deepstack_visual_indexes": [0],
    }
    config = Qwen3VLConfig(**_qwen(words, looks))
    processor = _qwen_processor(Qwen3VLProcessor, words, 16)
    return _saved(Qwen3VLForConditionalGeneration, config, processor, folder, torch)


def idefics3(folder: Path, texts: list[str]) -> Path:
    """Idefics3: tiles and the whole, padded to as many as the batch's largest has."""
    import torch
    from transformers import (
        Idefics3Config,
        Idefics3ForConditionalGeneration,
        Idefics3ImageProcessor,
        Idefics3Processor,
    )

    words = tokenizer(texts, "<image>")
    looks = Idefics3ImageProcessor(**_TILES)
    processor = Idefics3Processor(looks, words, image_seq_len=4, chat_template=words.chat_template)
    config = Idefics3Config(**_tiled(words))
    return _saved(Idefics3ForConditionalGeneration, config, processor, folder, torch)


def smolvlm(folder: Path, texts: list[str]) -> Path:
    """SmolVLM: Idefics3's way with pictures."""
    import torch
    from transformers import (
        SmolVLMConfig,
        SmolVLMForConditionalGeneration,
        SmolVLMImageProcessor,
        SmolVLMProcessor,
        SmolVLMVideoProcessor,
    )

    words = tokenizer(texts, "<image>")
    looks = SmolVLMImageProcessor(**_TILES)
    films = SmolVLMVideoProcessor(size={"longest_edge": 32}, max_image_size={"longest_edge": 32})
    processor = SmolVLMProcessor(
        looks, words, films, image_seq_len=4, chat_template=words.chat_template
    )
    config = SmolVLMConfig(**_tiled(words))
    return _saved(SmolVLMForConditionalGeneration, config, processor, folder, torch)


_TILES = {
    "size": {"longest_edge": 64},
    "max_image_size": {"longest_edge": 32},
    "do_image_splitting": True,
}


def _tiled(words: Any) -> dict[str, Any]:
    return {
        "text_config": {**_text(words), "model_type": "llama"},
        "vision_config": _vision(32, 8),
        "image_token_id": words.convert_tokens_to_ids("<image>"),
        "pad_token_id": words.pad_token_id,
        "scale_factor": 2,
    }


def _qwen(words: Any, looks: dict[str, Any]) -> dict[str, Any]:
    ids = words.convert_tokens_to_ids
    rope = {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [2, 3, 3]}
    return {
        "text_config": {**_text(words), "rope_parameters": rope},
        "vision_config": {
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 2,
            "out_hidden_size": 32,
            **looks,
        },
        "image_token_id": ids("<|image_pad|>"),
        "video_token_id": ids("<|video_pad|>"),
        "vision_start_token_id": ids("<|vision_start|>"),
        "vision_end_token_id": ids("<|vision_end|>"),
    }


def _qwen_processor(kind: Any, words: Any, patch: int) -> Any:
    from transformers import Qwen2VLImageProcessor, Qwen2VLVideoProcessor, Qwen3VLVideoProcessor

    films = Qwen3VLVideoProcessor if "Qwen3" in kind.__name__ else Qwen2VLVideoProcessor
    side = 2 * patch
    looks = Qwen2VLImageProcessor(
        patch_size=patch, size={"shortest_edge": side * side, "longest_edge": 16 * side * side}
    )
    return kind(looks, words, films(patch_size=patch), chat_template=words.chat_template)


# With processors that build on Pillow, and those that take torchvision.
BUILDERS = {"gemma3": gemma3, "llava": llava, "llava_next": llava_next}
WITH_TORCHVISION = {
    "qwen2_5_vl": qwen2_5_vl,
    "qwen3_vl": qwen3_vl,
    "idefics3": idefics3,
    "smolvlm": smolvlm,
}


def _text(words: Any, head_dim: int = 16) -> dict[str, Any]:
    return {
        "vocab_size": len(words),
        "hidden_size": 2 * head_dim,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": head_dim,
        "max_position_embeddings": 1024,
        "pad_token_id": words.pad_token_id,
        "eos_token_id": words.eos_token_id,
        "bos_token_id": words.bos_token_id,
    }


def _vision(side: int, patch: int, head_dim: int = 16) -> dict[str, Any]:
    return {
        "hidden_size": 2 * head_dim,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": side,
        "patch_size": patch,
    }


def _saved(kind: Any, config: Any, processor: Any, folder: Path, torch: Any) -> Path:
    torch.manual_seed(0)
    model = kind(config)
    for name, weight in model.named_parameters():
        if name.endswith("mm_input_projection_weight"):
            # Gemma 3 starts it at zero, for weights that will be loaded: nothing would be seen.
            torch.nn.init.normal_(weight)
    model.generation_config.eos_token_id = processor.tokenizer.eos_token_id
    model.save_pretrained(folder, state_dict=_as_published(model.state_dict()))
    processor.save_pretrained(folder)
    return folder


def _as_published(weights: dict[str, Any]) -> dict[str, Any]:
    """SigLIP's weights under the names of Gemma 3's published files, which vLLM knows."""
    new, old = "vision_tower.", "vision_tower.vision_model."
    siglip = any("multi_modal_projector.mm_input" in name for name in weights)
    if not siglip or any(old in name for name in weights):
        return weights
    return {name.replace(new, old): weight for name, weight in weights.items()}
