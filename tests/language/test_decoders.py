"""Captions from conditions: batched, cached beam search and the loss against naive twins without batches, caches and masks."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import DynamicCache, GPT2Config, GPT2LMHeadModel

from pipeline.core.files import digest_tree
from pipeline.language.condition import Condition
from pipeline.language.decoders import IGNORE, Decoder, pad
from pipeline.language.decoding import Decoding
from tests.language.tiny import (
    ANY,
    BERT,
    LEFT_TO_RIGHT,
    SUM_ORDER,
    WORDS,
    build,
    condition,
    load,
    naive_beams,
    naive_greedy,
    naive_log_probabilities,
    row,
    save_language_model,
    small,
)


@pytest.mark.parametrize("length", [1, 4])
def test_greedy_captions_equal_a_search_without_batch_and_cache(make_decoder, length):
    decoder, given = make_decoder(), condition(12, length)
    captions = decoder.generate(given, Decoding(beams=1, max_new_tokens=10))
    assert captions == [naive_greedy(decoder, row(given, i), 10) for i in range(12)]
    assert len(set(captions)) > 2  # the images make a difference
    assert len({len(caption.split()) for caption in captions}) > 2  # and some captions end by themselves


@pytest.mark.parametrize("length", [1, 4])
@pytest.mark.parametrize(("beams", "penalty"), [(2, 1.0), (5, 1.0), (3, 0.0), (3, 2.0), (3, -1.0)])
def test_beam_search_captions_equal_a_search_without_batch_and_cache(make_decoder, beams, penalty, length):
    decoder, given = make_decoder(), condition(8, length)
    decoding = Decoding(beams=beams, max_new_tokens=8, length_penalty=penalty)
    assert decoder.generate(given, decoding) == [naive_beams(decoder, row(given, i), decoding)[0] for i in range(8)]


def test_more_beams_and_another_length_penalty_change_captions(make_decoder):
    decoder, given = make_decoder(), condition(20)
    found = {tuple(decoder.generate(given, Decoding(beams, 8, penalty))) for beams, penalty in ((1, 1.0), (5, 1.0), (5, -1.0))}
    assert len(found) == 3


@pytest.mark.parametrize("beams", [1, 4])
def test_a_caption_does_not_depend_on_the_images_captioned_beside_it(make_decoder, beams):
    decoder, given = make_decoder(), condition(9, 2)
    decoding = Decoding(beams=beams, max_new_tokens=8)
    assert decoder.generate(given, decoding) == [decoder.generate(row(given, i), decoding)[0] for i in range(9)]


def test_no_caption_is_longer_than_asked(make_decoder):
    captions = make_decoder(seed=3).generate(condition(20), Decoding(beams=1, max_new_tokens=2))
    assert max(len(caption.split()) for caption in captions) == 2


def naive_loss(decoder: Decoder, given: Condition, rows: list[list[int]]) -> float:
    """Mean over all predicted tokens of minus their log probability, each computed from its own prefix."""
    values = [-naive_log_probabilities(decoder, row(given, i), ids[1:end])[ids[end]].item()
              for i, ids in enumerate(rows) for end in range(1, len(ids))]
    return sum(values) / len(values)


ROWS = [[0, 5, 6, 7, 1], [0, 2, 1], [0, 9, 9, 3, 4, 8, 2, 1]]


@pytest.mark.parametrize("length", [1, 3])
def test_the_loss_counts_caption_tokens_alone_neither_padding_nor_prefix(make_decoder, length):
    decoder, given = make_decoder(), condition(3, length)
    assert decoder.loss(given, pad(ROWS)).item() == pytest.approx(naive_loss(decoder, given, ROWS), abs=SUM_ORDER)


def test_more_padding_changes_nothing(make_decoder):
    decoder, given = make_decoder(), condition(3, 2)
    ids = pad(ROWS)
    padded = torch.cat([ids, torch.full((3, 6), IGNORE)], dim=1)
    torch.testing.assert_close(decoder.loss(given, padded), decoder.loss(given, ids), atol=SUM_ORDER, rtol=0)
    torch.testing.assert_close(decoder.loss(given, padded, 0.1), decoder.loss(given, ids, 0.1), atol=SUM_ORDER, rtol=0)
    assert decoder.loss(given, ids, 0.1) != decoder.loss(given, ids)


def test_the_loss_teaches_both_the_mapper_and_the_language_model(make_decoder):
    decoder = make_decoder()
    decoder.loss(condition(3), pad(ROWS)).backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in decoder.mapper.parameters())
    assert decoder.lm.get_input_embeddings().weight.grad.abs().sum() > 0


@pytest.fixture
def partly_masked() -> tuple[Condition, Condition]:
    """Two conditions that differ in nothing but the vectors that do not count."""
    vectors = condition(6, 3).vectors
    mask = torch.tensor([[True, True, True], [False, True, True], [True, False, True]]).repeat(2, 1)
    changed = torch.where(mask[..., None], vectors, vectors + 7)
    return Condition(vectors, mask), Condition(changed, mask)


def test_a_masked_vector_has_no_influence_on_the_loss(make_decoder, partly_masked):
    decoder, (one, other) = make_decoder(), partly_masked
    rows = ROWS * 2
    torch.testing.assert_close(decoder.loss(one, pad(rows)), decoder.loss(other, pad(rows)), atol=SUM_ORDER, rtol=0)
    assert decoder.loss(Condition.full(one.vectors), pad(rows)) != decoder.loss(Condition.full(other.vectors), pad(rows))


@pytest.mark.parametrize("beams", [1, 3])
def test_a_masked_vector_has_no_influence_on_the_caption(make_decoder, partly_masked, beams):
    decoder, (one, other) = make_decoder(), partly_masked
    decoding = Decoding(beams=beams, max_new_tokens=8)
    assert decoder.generate(one, decoding) == decoder.generate(other, decoding)
    assert decoder.generate(Condition.full(one.vectors), decoding) != decoder.generate(Condition.full(other.vectors), decoding)


def test_a_condition_with_masked_vectors_is_read_alike_in_training_and_at_inference(make_decoder, partly_masked):
    decoder, (given, _) = make_decoder(), partly_masked
    captions = decoder.generate(given, Decoding(beams=1, max_new_tokens=6))
    for i, caption in enumerate(captions):
        ids = [0, *decoder.tokenizer.encode(caption), 1]
        # the caption that greedy search found must be, token by token, the likeliest under the training loss' own view
        likeliest = decoder.logits(row(given, i), torch.tensor([ids[:-1]]))[0].argmax(-1).tolist()
        assert likeliest[: len(ids) - 2] == ids[1:-1]


@pytest.fixture(params=["mlp", "linear"])
def trained(request, tiny_clip_folder) -> tuple[Decoder, str]:
    torch.manual_seed(0)
    return build(small(mapper=request.param), tiny_clip_folder, 2).eval(), request.param


def test_a_saved_decoder_gives_the_same_captions_and_loss(trained, tmp_path):
    decoder, mapper = trained
    given, decoding = condition(4, 2), Decoding(beams=2, max_new_tokens=6)
    (tmp_path / "model").mkdir()
    decoder.save(tmp_path / "model", 8, mapper)
    again = load(tmp_path / "model")
    captions = decoder.generate(given, decoding)
    assert again.generate(given, decoding) == captions
    assert any(captions)
    ids = pad([[decoder.tokenizer.start, 5, 6, decoder.tokenizer.end]] * 4)
    assert torch.equal(again.loss(given, ids), decoder.loss(given, ids))
    assert again.tokenizer.encode("a red car") == decoder.tokenizer.encode("a red car")


def test_a_loaded_decoder_neither_drops_out_nor_trains(trained, tmp_path):
    decoder, mapper = trained
    (tmp_path / "model").mkdir()
    decoder.save(tmp_path / "model", 8, mapper)
    again = load(tmp_path / "model")
    assert not again.training
    assert not any(parameter.requires_grad for parameter in again.parameters())


def test_two_saves_have_identical_bytes_and_no_pickle(trained, tmp_path):
    decoder, mapper = trained
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        decoder.save(tmp_path / name, 8, mapper)
    assert digest_tree(tmp_path / "one") == digest_tree(tmp_path / "two")
    assert {path.suffix for path in (tmp_path / "one").rglob("*") if path.is_file()} <= {".safetensors", ".json", ".gz"}


@pytest.fixture
def model(tiny_clip_folder, tmp_path):
    torch.manual_seed(0)
    (tmp_path / "model").mkdir()
    build(small(), tiny_clip_folder).save(tmp_path / "model", 8, "mlp")
    return tmp_path / "model"


@pytest.mark.parametrize("name", ["decoder.json", "mapper.safetensors", "lm/model.safetensors", "lm/config.json", "lm",
                                  "bpe_merges.txt.gz"])
def test_a_model_that_lacks_a_file_is_named(model, user_error, name):
    shutil.rmtree(model / name) if name == "lm" else (model / name).unlink()
    assert str(model) in user_error(load, model)


@pytest.mark.parametrize("name", ["decoder.json", "mapper.safetensors", "lm/model.safetensors", "lm/config.json", "bpe_merges.txt.gz"])
def test_a_model_with_a_cut_file_is_named(model, user_error, name):
    content = (model / name).read_bytes()
    (model / name).write_bytes(content[: len(content) // 2])
    assert str(model) in user_error(load, model)


def test_a_mapper_of_another_model_is_refused(model, tiny_clip_folder, tmp_path, user_error):
    (tmp_path / "other").mkdir()
    build(small(width=32), tiny_clip_folder).save(tmp_path / "other", 8, "mlp")
    shutil.copyfile(tmp_path / "other" / "mapper.safetensors", model / "mapper.safetensors")
    assert str(model) in user_error(load, model)


def test_initial_weights_follow_from_the_seed(tiny_clip_folder):
    def weights(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return torch.cat([parameter.flatten() for parameter in build(small(), tiny_clip_folder).parameters()])

    assert torch.equal(weights(0), weights(0))
    assert not torch.equal(weights(0), weights(1))


def test_a_width_that_the_heads_do_not_divide_is_named(tiny_clip_folder, user_error):
    assert "width 16 must be a multiple of its heads 3" in user_error(build, small(heads=3), tiny_clip_folder)


def test_an_unknown_language_model_is_named(tiny_clip_folder, tmp_path, user_error):
    missing = str(tmp_path / "no-model")
    assert f"{missing} holds no language model that can be loaded" in user_error(build, small(pretrained=missing), tiny_clip_folder)


@pytest.fixture
def language_model(tmp_path) -> Path:
    """A GPT-2 of the user's own."""
    return save_language_model(tmp_path / "lm", GPT2Config(vocab_size=3, n_positions=32, n_embd=8, n_layer=1, n_head=2))


def test_a_language_model_of_ones_own_is_loaded_with_its_tokenizer(language_model, tiny_clip_folder):
    assert build(small(pretrained=str(language_model)), tiny_clip_folder).tokenizer.encode("a cat") == [1, 2]


@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "tokenizer.json"])
@pytest.mark.parametrize("content", [None, b"", b"[]", b"{", b'{"a": 1}', b"\xff" * 100])
def test_a_damaged_language_model_is_one_line(language_model, tiny_clip_folder, user_error, file, content):
    (language_model / file).unlink()
    if content is not None:
        (language_model / file).write_bytes(content)
    assert f"{language_model} holds no language model that can be loaded" in user_error(
        build, small(pretrained=str(language_model)), tiny_clip_folder)


def test_a_pickle_in_place_of_weights_is_not_run(language_model, tiny_clip_folder, tmp_path, user_error):
    class Harm:
        def __reduce__(self):
            return Path.mkdir, (tmp_path / "pwned",)

    (language_model / "model.safetensors").unlink()
    (language_model / "pytorch_model.bin").write_bytes(pickle.dumps(Harm()))
    assert "holds no language model" in user_error(build, small(pretrained=str(language_model)), tiny_clip_folder)
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("beams", [1, 3])
def test_captions_may_be_as_long_as_the_longest_one_in_training(tiny_clip_folder, beams):
    torch.manual_seed(0)
    decoder = build(small(max_tokens=12), tiny_clip_folder, 5).eval()
    assert len(decoder.generate(condition(2, 5), Decoding(beams=beams, max_new_tokens=12))) == 2


def test_more_beams_than_there_are_words_to_choose_from_are_named(tiny_clip_folder, user_error):
    decoder = build(small(), tiny_clip_folder).eval()
    words = decoder.lm.get_input_embeddings().num_embeddings
    decoder.generate(condition(2), Decoding(beams=words // 2, max_new_tokens=2))
    assert "captioning.beams is" in user_error(decoder.generate, condition(2), Decoding(beams=words // 2 + 1, max_new_tokens=2))


def test_a_language_model_without_some_of_its_weights_or_with_no_numbers_is_refused(language_model, tiny_clip_folder, user_error):
    weights = load_file(language_model / "model.safetensors")
    save_file({key: value for key, value in weights.items() if "mlp" not in key}, language_model / "model.safetensors", {"format": "pt"})
    assert "its weights lack" in user_error(build, small(pretrained=str(language_model)), tiny_clip_folder)
    save_file({key: value * float("nan") for key, value in weights.items()}, language_model / "model.safetensors", {"format": "pt"})
    assert "no number" in user_error(build, small(pretrained=str(language_model)), tiny_clip_folder)


@pytest.fixture
def pretrained(request, tiny_clip_folder, tmp_path) -> Decoder:
    """A decoder on a language model of that name, about to be trained on conditions of three vectors."""
    folder = save_language_model(tmp_path / "lm", LEFT_TO_RIGHT[request.param], WORDS)
    torch.manual_seed(0)
    return build(small(pretrained=str(folder), mapper="linear"), tiny_clip_folder, 3).train()


def captions_as_without_cache(decoder: Decoder, given: Condition) -> None:
    decoding = Decoding(beams=3, max_new_tokens=6)
    captions = decoder.eval().generate(given, decoding)
    assert captions == [naive_beams(decoder, row(given, i), decoding)[0] for i in range(6)]
    assert len(set(captions)) > 2


@pytest.mark.parametrize("pretrained", LEFT_TO_RIGHT, indirect=True)
def test_any_left_to_right_language_model_learns_and_captions(pretrained):
    pretrained.loss(condition(3, 3), pad(ROWS)).backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in pretrained.mapper.parameters())
    captions_as_without_cache(pretrained, condition(6, 3))


@pytest.mark.parametrize("pretrained", sorted({*LEFT_TO_RIGHT} - {"Mistral"}), indirect=True)  # its window counts masked vectors too
def test_any_left_to_right_language_model_leaves_masked_vectors_out(pretrained, partly_masked):
    pretrained.eval()
    for given in partly_masked:
        assert pretrained.loss(given, pad(ROWS * 2)).item() == pytest.approx(naive_loss(pretrained, given, ROWS * 2), abs=SUM_ORDER)
    captions_as_without_cache(pretrained, partly_masked[0])


BOTH_WAYS, NO_CACHE = "it sees later tokens: it is not left-to-right", "it keeps no key/value cache"
UNFIT = {
    "BERT": (transformers.BertConfig(**BERT), BOTH_WAYS),
    "RoBERTa": (transformers.RobertaConfig(**BERT), BOTH_WAYS),
    "XLNet": (transformers.XLNetConfig(**ANY, d_model=16, n_layer=1, n_head=2, d_inner=16), BOTH_WAYS),
    "RoBERTa as a decoder": (transformers.RobertaConfig(**BERT, is_decoder=True), "it does not count positions from 0"),
    "Mamba": (transformers.MambaConfig(**ANY, hidden_size=16, num_hidden_layers=1, state_size=4), NO_CACHE),
    "RWKV": (transformers.RwkvConfig(**ANY, hidden_size=16, num_hidden_layers=2), NO_CACHE),
    "Jamba": (transformers.JambaConfig(**{**BERT, "num_hidden_layers": 2}, num_key_value_heads=1, attn_layer_period=2, attn_layer_offset=1,
                                       num_experts=1, mamba_d_state=4, use_mamba_kernels=False), NO_CACHE),
}


@pytest.mark.parametrize("name", UNFIT)
def test_a_language_model_that_cannot_caption_is_refused_before_it_is_trained(name, tiny_clip_folder, tmp_path, user_error):
    config, reason = UNFIT[name]
    message = user_error(build, small(pretrained=str(save_language_model(tmp_path / "lm", config, WORDS))), tiny_clip_folder)
    assert reason in message
    assert "name a left-to-right one" in message


@pytest.mark.parametrize(("ignored", "reason"), [("attention_mask", "it sees what is masked"),
                                                 ("past_key_values", "with its key/value cache it predicts something else")])
def test_a_language_model_that_ignores_what_it_is_told_is_refused(language_model, tiny_clip_folder, user_error, monkeypatch, ignored,
                                                                  reason):
    real = GPT2LMHeadModel.forward
    monkeypatch.setattr(GPT2LMHeadModel, "forward", lambda lm, **given: real(lm, **{**given, ignored: None}))
    assert reason in user_error(build, small(pretrained=str(language_model)), tiny_clip_folder)


def test_a_language_model_that_mixes_up_captions_is_refused(language_model, tiny_clip_folder, user_error, monkeypatch):
    real = DynamicCache.batch_select_indices
    monkeypatch.setattr(DynamicCache, "batch_select_indices", lambda cache, rows: real(cache, rows.flip(0)))
    assert "with its key/value cache it predicts something else" in user_error(
        build, small(pretrained=str(language_model)), tiny_clip_folder)


def test_a_language_model_that_predicts_more_than_is_asked_learns_as_another(language_model, tiny_clip_folder, monkeypatch):
    real = GPT2LMHeadModel.forward
    monkeypatch.setattr(GPT2LMHeadModel, "forward", lambda lm, **given: real(lm, **{**given, "logits_to_keep": 0}))
    decoder, rows = build(small(pretrained=str(language_model)), tiny_clip_folder).eval(), [[0, 1, 2, 0], [0, 2, 0]]
    assert decoder.loss(condition(2), pad(rows)).item() == pytest.approx(naive_loss(decoder, condition(2), rows), abs=SUM_ORDER)


def test_a_tokenizer_with_more_words_than_its_language_model_is_refused(tiny_clip_folder, tmp_path, user_error):
    folder = save_language_model(tmp_path / "lm", LEFT_TO_RIGHT["GPT-2"], [*WORDS, "more"])
    assert "its tokenizer has 13 tokens, its embeddings 12" in user_error(build, small(pretrained=str(folder)), tiny_clip_folder)


def test_a_language_model_too_short_for_the_captions_is_named_before_it_is_trained(language_model, tiny_clip_folder, user_error):
    assert "max_tokens is 31, but" in user_error(build, small(pretrained=str(language_model), max_tokens=31), tiny_clip_folder)
    build(small(pretrained=str(language_model), max_tokens=30), tiny_clip_folder)


def test_the_hub_is_asked_neither_for_a_language_model_nor_for_what_a_trained_model_lacks(model, tiny_clip_folder, user_error, asked):
    shutil.rmtree(model / "lm")
    assert str(model) in user_error(load, model)
    assert not asked
    message = user_error(build, small(pretrained="nobody/none"), tiny_clip_folder)
    assert "nobody/none holds no language model" in message
    assert "unpaired model add lm" in message
    assert not asked


def test_padding_fills_each_row_behind_its_end():
    assert pad([[0, 5, 1], [0, 1], [0, 5, 6, 7, 1]]).tolist() == [
        [0, 5, 1, IGNORE, IGNORE], [0, 1, IGNORE, IGNORE, IGNORE], [0, 5, 6, 7, 1]]
    assert pad([[0, 5, 1]]).tolist() == [[0, 5, 1]]
