"""Pictures reach every policy and the learner unchanged, and their tokens agree everywhere."""

import base64
import importlib.util
import io
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import gymnasium as gym
import numpy as np
import pytest
from PIL import Image
from taskgym.agents import Rollout, Sampling, ScriptedPolicy, Start, replay_episode
from taskgym.agents.fitting import fit
from taskgym.agents.scripted import gold
from taskgym.agents.traces import read_episodes, to_record, write_episodes
from taskgym.agents.vision import SightError, VisionRenderer, check_same_prompt, with_urls
from taskgym.envs.images import image_hash, open_image

pytest.importorskip("transformers")
from vision_models import BUILDERS, WITH_TORCHVISION, tokenizer

ENV = "Vision-Shapes-v0"
NEAR = 1e-4  # nats a token, float32
STARTS = [Start(5, i, 100 * i + m, i, m) for i in (0, 3, 4) for m in range(2)]


def has_torchvision():
    try:
        importlib.import_module("torchvision.transforms.v2")
    except Exception:  # not there, or built for another torch
        return False
    return True


without = pytest.mark.skipif(not has_torchvision(), reason="no working torchvision")
needs_words = pytest.mark.skipif(
    importlib.util.find_spec("num2words") is None, reason="SmolVLM's processor needs num2words"
)
EVERY = [
    *BUILDERS,
    *(pytest.param(n, marks=without) for n in WITH_TORCHVISION if n != "smolvlm"),
    pytest.param("smolvlm", marks=[without, needs_words]),
]


def make():
    return gym.make(ENV, size=12)


def questions():
    env = make().unwrapped
    return [env.prompt(task)[0]["content"][1]["text"] for task in env.tasks]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    made = {}

    def folder(name):
        if name not in made:
            made[name] = {**BUILDERS, **WITH_TORCHVISION}[name](
                tmp_path_factory.mktemp(name), questions()
            )
        return made[name]

    return folder


def loaded(folder):
    from taskgym.training import LoraConfig, TrainConfig
    from taskgym.training.models import load_model

    config = TrainConfig(model=str(folder), lora=LoraConfig(rank=4, alpha=8))
    made = load_model(config, sees=True)
    made.model.float()  # on a GPU weights are bfloat16, too coarse to compare
    return made


def played(model, starts=STARTS, **sampling):
    from taskgym.agents.transformers_policy import TransformersPolicy

    policy = TransformersPolicy(model.model, model.tokenizer, model.renderer)
    rollout = Rollout(policy, make, Sampling(max_tokens=6, **sampling), model.renderer)
    rollout.start(starts)
    by_start = {t.start: t for t in rollout.finished()}
    rollout.close()
    return [by_start[start] for start in starts]


def logprobs(model, trajectory):
    import torch

    device = model.model.device
    ids = torch.tensor([[*trajectory.prompt_ids, *trajectory.completion_ids]], device=device)
    mask = torch.ones_like(ids)
    extra = model.renderer.model_inputs([trajectory.seen], ids, mask)
    extra = {name: value.to(device) for name, value in extra.items()}
    with torch.no_grad():
        out = model.model.eval()(input_ids=ids, attention_mask=mask, **extra).logits
    said = out[0, len(trajectory.prompt_ids) - 1 : -1].log_softmax(-1).cpu()
    return said.gather(1, torch.tensor(trajectory.completion_ids)[:, None])[:, 0].tolist()


@pytest.mark.parametrize("name", EVERY)
def test_what_is_sampled_is_as_likely_to_the_learner(name, folders):
    model = loaded(folders(name))
    for trajectory in played(model):
        assert trajectory.logprobs == pytest.approx(logprobs(model, trajectory), abs=NEAR)


@pytest.mark.parametrize("name", EVERY)
def test_another_picture_is_another_policy(name, folders):
    """A check that can fail: the same tokens beside other pixels are less or more likely."""
    from dataclasses import replace

    model = loaded(folders(name))
    trajectory = played(model, STARTS[:1])[0]
    black = tuple(Image.new("RGB", image.size) for image in trajectory.seen.images)
    trajectory.seen = replace(trajectory.seen, images=black)
    assert trajectory.logprobs != pytest.approx(logprobs(model, trajectory), abs=NEAR)


@pytest.mark.parametrize("name", EVERY)
def test_the_learner_is_given_the_pixels_and_tokens_of_the_sampler(name, folders):
    import torch
    from taskgym.training.shown_processor import ShownProcessor

    model = loaded(folders(name))
    rows = played(model)
    positions = [row.start.group for row in rows]
    shown = ShownProcessor(model.renderer, 1)
    shown.show(positions, rows)
    texts = [
        shown.apply_chat_template(
            [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": str(p)}]}]
        )
        for p in positions
    ]
    made = shown(images=[[None]] * len(rows), text=texts, padding=True)
    alone = [model.renderer.inputs([row.seen]) for row in rows]
    whole = torch.cat([one["pixel_values"] for one in alone])
    assert torch.equal(made["pixel_values"], whole)
    width = max(len(row.prompt_ids) for row in rows)
    for key in ("token_type_ids", "mm_token_type_ids"):
        if key in made:
            assert made[key].shape == (len(rows), width)
            per_picture = made[key].sum(1).tolist()
            assert per_picture == [
                row.prompt_ids.count(model.tokenizer.image_token_id) for row in rows
            ]
    with pytest.raises(SightError, match="other rows"):
        shown(images=[[None]] * len(rows), text=texts[::-1])
    rows[0].prompt_ids = (*rows[0].prompt_ids[:-1], 0)
    with pytest.raises(SightError, match="row 0"):
        shown(images=[[None]] * len(rows), text=texts)


def test_every_first_observation_must_show_as_many_pictures(folders):
    from taskgym.training.shown_processor import ShownProcessor

    model = loaded(folders("gemma3"))
    with pytest.raises(SightError, match="as many pictures: 2 in the env's first task, 1"):
        ShownProcessor(model.renderer, 2).show([0], played(model, STARTS[:1]))


def test_tokens_that_stand_for_pictures_are_never_sampled(folders):
    import torch

    model = loaded(folders("gemma3"))
    never = played(model, STARTS[:1])[0].seen.unsayable
    assert model.tokenizer.image_token_id in never
    with torch.no_grad():  # all that the model would say are those tokens
        head = model.model.get_output_embeddings().weight
        head[[i for i in range(len(head)) if i not in never]] = 0
        head[list(never)] *= 100
    for temperature in (0.0, 1.0):
        for trajectory in played(model, temperature=temperature):
            assert not set(never) & set(trajectory.completion_ids)


def test_the_language_layers_are_adapted_and_the_vision_layers_on_demand(folders):
    import re

    from taskgym.training import LoraConfig
    from taskgym.training.sight import sight_targets

    model = loaded(folders("gemma3")).model
    adapted = [n for n, p in model.named_parameters() if p.requires_grad]
    assert adapted and all("language_model.layers" in name for name in adapted)
    names = [
        "model.vision_tower.vision_model.encoder.layers.0.self_attn.q_proj",
        "model.visual.blocks.0.attn.qkv",
        "model.language_model.layers.0.self_attn.q_proj",
        "model.language_model.layers.1.mlp.up_proj",
        "model.text_model.layers.1.mlp.up_proj",
        "lm_head",
    ]

    def chosen(**lora):
        pattern = sight_targets(LoraConfig(**lora), 2)
        return [i for i, name in enumerate(names) if re.fullmatch(pattern, name)]

    assert chosen() == [2, 3, 4]
    assert chosen(vision=True) == [0, 1, 2, 3, 4]
    assert chosen(vision=True, language=False) == [0, 1]
    assert chosen(first_layer=1) == [3, 4]
    with pytest.raises(ValueError, match="adapts nothing"):
        LoraConfig(language=False)


def test_a_question_that_names_the_image_token_is_an_error(folders):
    renderer = loaded(folders("gemma3")).renderer
    parts = [
        {"type": "image", "image": Image.new("RGB", (8, 8))},
        {"type": "text", "text": "what is <start_of_image>?"},
    ]
    with pytest.raises(SightError, match="1 pictures do not fit"):
        renderer.opening([{"role": "user", "content": parts}])


def test_the_cue_is_what_the_template_adds(folders):
    assert loaded(folders("gemma3")).renderer.cue() == "<bos>assistant :"


def test_pictures_in_later_observations_are_refused(folders):
    renderer = loaded(folders("gemma3")).renderer
    shown = [{"role": "user", "content": [{"type": "image", "image": Image.new("RGB", (8, 8))}]}]
    with pytest.raises(SightError, match="first observation only"):
        renderer.continuation(shown, (1,))


def test_a_model_that_cannot_see_is_refused(tiny_model):
    from taskgym.training.config import TrainConfig
    from taskgym.training.errors import ModelError
    from taskgym.training.models import load_model

    for name, what in ((str(tiny_model), "text only"), ("", "cannot see")):
        with pytest.raises(ModelError, match=what):
            load_model(TrainConfig(model=name), sees=True)


# Geometry: a circle must come through every processor as a circle.
SIZES = [(400, 100), (100, 400), (64, 64), (30, 20), (9, 300), (640, 480)]


def circle(width, height):
    from PIL import ImageDraw

    image = Image.new("RGB", (width, height), "white")
    r, x, y = min(width, height) * 0.4, width / 2, height / 2
    ImageDraw.Draw(image).ellipse((x - r, y - r, x + r, y + r), fill="black")
    return image


def box(plane):
    """Width and height of what is dark."""
    dark = np.argwhere(plane < (plane.min() + plane.max()) / 2)
    height, width = dark.max(0) - dark.min(0) + 1
    return width, height


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["gemma3", "llava", "llava_next"])
def test_a_circle_stays_a_circle(name, size, folders):
    from taskgym.training.readers import read_processor

    processor = read_processor(str(folders(name))).image_processor
    big = type(processor)(**{**processor.to_dict(), "size": {"height": 224, "width": 224}})
    if name != "gemma3":
        big.size, big.crop_size = {"shortest_edge": 224}, {"height": 224, "width": 224}
    if name == "llava_next":
        big.image_grid_pinpoints = [[224, 448], [448, 224], [448, 448]]
    fitted = fit(circle(*size), big)
    plane = np.asarray(big(fitted, return_tensors="np")["pixel_values"]).reshape(-1, 3, 224, 224)[
        0, 0
    ]
    width, height = box(plane)
    assert abs(width - height) <= max(2, 0.08 * height)


@pytest.mark.parametrize("size", [*SIZES, (3000, 2000), (5, 5)])
def test_qwen_is_given_sides_it_does_not_change(size):
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import (
        Qwen2VLImageProcessorPil,
        smart_resize,
    )

    processor = Qwen2VLImageProcessorPil(
        size={"shortest_edge": 56 * 56, "longest_edge": 28 * 28 * 256}
    )
    image = fit(circle(*size), processor)
    assert smart_resize(image.height, image.width, 28, 56 * 56, 28 * 28 * 256) == (
        image.height,
        image.width,
    )
    width, height = box(np.asarray(image.convert("L")))
    assert abs(width - height) <= max(2, 0.08 * height)


@pytest.mark.parametrize("size", [*SIZES, (3000, 2000)])
def test_tiles_are_filled_without_stretching(size):
    """Idefics3 and SmolVLM: their processors need torchvision, their arithmetic does not."""
    from types import SimpleNamespace

    tile, longest = 64, 256
    processor = SimpleNamespace(
        size={"longest_edge": longest},
        max_image_size={"longest_edge": tile},
        do_image_splitting=True,
    )
    image = fit(circle(*size), processor)
    scale = longest / max(image.size)
    for side in image.size:
        assert abs(side * scale / tile - round(side * scale / tile)) * tile <= max(2, 2 * scale)


# Servers and files.
class Chat(BaseHTTPRequestHandler):
    """Says what it was asked, as an OpenAI-compatible server would."""

    asked: list[dict] = []  # noqa: RUF012

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append(body)
        choice = {"message": {"content": "4"}, "finish_reason": "stop"}
        if body.get("return_token_ids"):
            choice |= {"token_ids": [7, 1], "logprobs": {"content": [{"logprob": -0.5}] * 2}}
        answer = {"model": body["model"], "choices": [choice], "prompt_token_ids": self.server.ids}
        content = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    Chat.asked.clear()
    http = ThreadingHTTPServer(("127.0.0.1", 0), Chat)
    http.ids = []
    threading.Thread(target=http.serve_forever, daemon=True).start()
    yield http
    http.shutdown()
    http.server_close()


def client(server):
    from taskgym.agents.server_client import ServerClient

    return ServerClient(f"http://127.0.0.1:{server.server_port}", patience=5)


def sent(body):
    """The pictures in a request."""
    parts = [p for m in body["messages"] for p in m["content"] if p["type"] == "image_url"]
    urls = [part["image_url"]["url"] for part in parts]
    assert all(url.startswith("data:image/png;base64,") for url in urls)
    return [open_image(base64.b64decode(url.partition(",")[2]), "sent") for url in urls]


def test_a_chat_server_is_sent_the_pixels_of_the_observation(server):
    from taskgym.agents.server_policy import ChatServerPolicy

    rollout = Rollout(ChatServerPolicy([client(server)], "m"), make, Sampling(max_tokens=4))
    rollout.start(STARTS[:1])
    (trajectory,) = rollout.finished()
    rollout.close()
    (image,) = sent(Chat.asked[0])
    assert image_hash(image) == trajectory.info["image_hash"]


def test_vllms_server_is_sent_the_pixels_the_learner_sees(server, folders, tmp_path):
    from taskgym.agents.server_policy import ServerPolicy

    model = loaded(folders("gemma3"))
    observation, _ = make().reset(seed=5, options={"index": 0})
    server.ids = list(model.renderer.opening(observation))
    policy = ServerPolicy(
        [client(server)], "m", model.tokenizer, [1], folder=tmp_path, max_model_len=500
    )
    rollout = Rollout(policy, make, Sampling(max_tokens=4), model.renderer)
    rollout.start(STARTS[:1])
    (trajectory,) = rollout.finished()
    (image,) = sent(Chat.asked[0])
    assert image_hash(image) == image_hash(trajectory.seen.images[0])
    assert trajectory.completion_ids == [7, 1] and trajectory.logprobs == [-0.5, -0.5]
    server.ids = server.ids[:-3]  # a server that renders or widens otherwise
    rollout.start(STARTS[:1])
    with pytest.raises(SightError, match=r"read .* tokens where the learner has"):
        list(rollout.finished())
    rollout.close()


def test_urls_carry_the_same_pixels_and_text_stays_text():
    image = Image.new("RGB", (3, 2), "red")
    messages = [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [{"type": "image", "image": image}, {"type": "text", "text": "?"}],
        },
    ]
    system, user = with_urls(messages)
    assert system == messages[0] and user["content"][1] == messages[1]["content"][1]
    assert image_hash(sent({"messages": [user]})[0]) == image_hash(image)
    check_same_prompt([1, 2], (1, 2), "it")


def test_episode_files_keep_the_picture_as_png_with_its_hash(tmp_path):
    rollout = Rollout(ScriptedPolicy(gold), make, Sampling())
    rollout.start(STARTS[:1])
    (trajectory,) = rollout.finished()
    rollout.close()
    twice = [to_record(trajectory, ENV, 1), to_record(trajectory, ENV, 1)]
    write_episodes(tmp_path / "episodes.jsonl", twice)
    record, second = read_episodes(tmp_path / "episodes.jsonl")
    assert second["messages"][0]["content"][0] == {"type": "image", "hash": record["image_hash"]}
    part = record["messages"][0]["content"][0]
    stored = Image.open(io.BytesIO(base64.b64decode(part["png"])))
    assert stored.format == "PNG"
    assert image_hash(stored.convert("RGB")) == part["hash"] == record["image_hash"]
    again = replay_episode(record, make())
    assert again.reward == record["reward"] == 4.0
    assert to_record(again, ENV, 1)["messages"] == record["messages"]


def test_renderers_of_text_see_nothing():
    from taskgym.agents.chat import Renderer

    words = tokenizer(["a b"], "<image>")
    assert Renderer(words).seen([{"role": "user", "content": "?"}]) is None
    assert issubclass(VisionRenderer, Renderer)
