"""Hugging Face model directories: found, read and written. Only safetensors are read."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxft.errors import InputError, nearest
from jaxft.files import ASSETS, atomic_directory, fetch, read_json_object
from jaxft.models.config import ImageConfig, ModelConfig, TextConfig
from jaxft.models.families import FAMILIES, entries, file_prefix
from jaxft.models.family import Family, config_to_hf
from jaxft.models.keys import Entry, write_arrays
from jaxft.models.pickled import read_state_dict
from jaxft.models.preprocessing import PREPROCESSOR, preprocessing_to_hf
from jaxft.models.published import PUBLISHED, published_file

logger = logging.getLogger(__name__)

PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
GGUF = ".gguf"
TOKENIZER_CONFIG = "tokenizer_config.json"
_VOCABULARIES = ("tokenizer.json", "vocab.txt", "vocab.json")
_SENTENCEPIECE = ("spiece.model", "tokenizer.model", "sentencepiece.bpe.model")
_BYTES = "ByT5Tokenizer"
GENERATION = "generation_config.json"
_DOWNLOADED = ("*.safetensors", "*.json", "*.txt", "*.jinja", *_SENTENCEPIECE)
# The same weights a second time; of directories only the one that sentence-transformers numbers 1 is read.
_OTHER_FORMATS = ("consolidated*", "[!1]*/*", "*/*.safetensors")
_FLOATS = ("float32", "float16", "bfloat16", "float64")
_OUTPUTS = ("lm_head.weight", "decoder.cls.predictions.decoder.weight")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def resolve(source: str | os.PathLike[str]) -> Path:
    """Where what a source names is: an asset, a local directory or GGUF file, or a hub id that is downloaded.

    Raises:
        InputError: it is none of them, the hub cannot be reached, or the hub has no such model.
    """
    name = os.fspath(source)
    if name in ASSETS:
        return fetch(name)
    path = Path(name).expanduser()
    if name and path.is_dir():
        return path
    if path.is_file() and path.suffix == GGUF:
        return path
    if path.is_file():
        raise InputError(f"expected a model directory; {path} is a file: name the directory it is in")
    if path.suffix == GGUF:
        raise InputError(f"there is no GGUF file {path}")
    models = [asset for asset, held in ASSETS.items() if any(map(_is_weights, held.members))]
    if isinstance(source, Path) or not _HUB_ID.fullmatch(name) or name.startswith("."):
        raise InputError(
            f"unknown model {name!r}: it is no asset ({nearest(name, models)}), no directory, and no hub id like "
            "'owner/name'"
        )
    return _download(name)


def _is_weights(member: str) -> bool:
    name = Path(member).name
    return name == WEIGHTS or name.endswith(GGUF) or name in PUBLISHED


def _download(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, RepositoryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=[*_DOWNLOADED], ignore_patterns=[*_OTHER_FORMATS]))
    except RepositoryNotFoundError as error:
        raise InputError(f"the hub has no public model {name!r}, and there is no such directory") from error
    except HFValidationError as error:
        raise InputError(f"{name!r} is no asset, no directory, and no name the hub allows: {error}") from error
    except (HfHubHTTPError, OSError) as error:
        raise InputError(
            f"{name!r} is no asset and no directory, and the hub could not be reached for it: "
            "check the connection, or name a local directory"
        ) from error


def read_config(directory: Path) -> dict[str, Any]:
    """The fields of a directory's ``config.json``; where ``generation_config.json`` names stop tokens, they are those.

    Raises:
        InputError: there is no ``config.json``, or one of the files is damaged.
    """
    path, published = directory / "config.json", published_file(directory)
    if published is not None:
        return dict(PUBLISHED[published.name])
    if not path.is_file():
        raise InputError(f"{directory} holds no config.json: expected a Hugging Face model directory")
    raw, generation = read_json_object(path), directory / GENERATION
    stops = read_json_object(generation).get("eos_token_id") if generation.is_file() else None
    return raw if stops is None else raw | {"eos_token_id": stops}


def weight_files(directory: Path) -> list[Path]:
    """The safetensors files of a directory, one or the shards its index names; pickles are refused."""
    if (directory / WEIGHTS).is_file():
        return [directory / WEIGHTS]
    if (directory / INDEX).is_file():
        try:
            shards = sorted(set(json.loads((directory / INDEX).read_text(encoding="utf-8"))["weight_map"].values()))
            missing = [shard for shard in shards if Path(shard).name != shard or not (directory / shard).is_file()]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{directory / INDEX} is not a safetensors index ({error!r}): fetch it again") from error
        if missing:
            raise InputError(f"{INDEX} names files that are not in {directory}: {', '.join(missing)}; fetch them again")
        return [directory / shard for shard in shards]
    pickles = sorted(file.name for pattern in PICKLES for file in directory.glob(pattern))
    if pickles:
        raise InputError(
            f"{directory} holds weights only as {', '.join(pickles)}: a pickle can run any code when it is read, so it "
            f"is refused; convert it to {WEIGHTS} where you trust it"
        )
    raise InputError(
        f"{directory} holds no {WEIGHTS}: expected a Hugging Face model directory with safetensors weights"
    )


def read_arrays(directory: Path, family: Family) -> dict[str, np.ndarray]:
    """Every array of a directory's safetensors by its name there without the family's prefix.

    Raises:
        InputError: no weights, only pickles, or a damaged file.
    """
    from safetensors import SafetensorError
    from safetensors.flax import load_file

    published = published_file(directory)
    if published is not None:
        return read_state_dict(published)
    arrays: dict[str, np.ndarray] = {}
    for file in weight_files(directory):
        try:
            loaded = load_file(str(file))
        except (SafetensorError, OSError, ValueError) as error:
            raise InputError(f"{file} is damaged or truncated ({error}): fetch or write it again") from error
        except AttributeError as error:  # numpy has no such type
            kind = str(error).rpartition(" ")[2]
            raise InputError(f"{file} holds numbers of {kind}: convert them to {', '.join(_FLOATS)}") from error
        arrays |= {name: np.asarray(array) for name, array in loaded.items()}
    return plain_names(arrays, family)


def plain_names(arrays: Mapping[str, np.ndarray], family: Family) -> dict[str, np.ndarray]:
    """The same arrays by their names without the family's prefix.

    Raises:
        InputError: two names are one without it, and their arrays differ.
    """
    found: dict[str, np.ndarray] = {}
    named: dict[str, str] = {}
    for name, array in arrays.items():
        plain = _plain(name, family)
        if plain in found and not np.array_equal(found[plain], array):
            raise InputError(
                f"the weights hold {named[plain]} and {name}, which stand for one array and differ: drop one of them"
            )
        found[plain], named[plain] = array, name
    return found


def _plain(name: str, family: Family) -> str:
    """Drops the prefix of the class and the names LayerNorm's arrays had in files of 2018."""
    plain = name.removeprefix(family.prefix)
    for old, new in ((".gamma", ".weight"), (".beta", ".bias")):
        plain = plain.removesuffix(old) + new if plain.endswith(old) else plain
    return plain


def match(
    wanted: Sequence[Entry],
    arrays: Mapping[str, np.ndarray],
    *,
    use_head: bool,
    ignored: Sequence[str],
    source: str,
) -> dict[str, np.ndarray]:
    """The arrays of the file at their paths here; those of the head that the file lacks are left out.

    Args:
        wanted: the arrays of the model.
        arrays: from :func:`read_arrays`.
        use_head: whether the file's head answers the same task from the same pooling.
        ignored: regular expressions of names the file may hold beside them.
        source: for messages.

    Raises:
        InputError: an array is missing, is one too many, has another shape, or holds no finite floating-point numbers.
    """
    found: dict[str, np.ndarray] = {}
    missing: list[Entry] = []
    absent: list[Entry] = []
    misshaped, unsound, taken = [], [], set()
    for entry in wanted:
        taken.add(entry.name)
        array = _stored(entry, arrays) if use_head or not entry.path.startswith("head/") else None
        if array is None:
            (absent if entry.fresh else missing).append(entry)
            continue
        piece = entry.read(array)
        if piece is not None:
            found[entry.path] = np.ascontiguousarray(piece, dtype=np.float32)
            if array.dtype.name not in _FLOATS:
                unsound.append(f"{entry.name} ({entry.path}) is {array.dtype.name}")
            elif not np.isfinite(found[entry.path]).all():
                unsound.append(f"{entry.name} ({entry.path}) holds NaN or infinity")
        else:
            misshaped.append(f"{entry.name} ({entry.path}) is {list(array.shape)}, expected {list(entry.there())}")
    begun = {_module(path) for path in found}  # a layer is in the file or starts fresh, but not half of it
    missing += [entry for entry in absent if _module(entry.path) in begun]
    extra = sorted(name for name in arrays.keys() - taken if not any(re.fullmatch(one, name) for one in ignored))
    if missing or misshaped or extra:
        named = sorted({f"{entry.name} ({entry.path})" for entry in missing})
        raise InputError(_complaint(named, misshaped, extra, source))
    if unsound:
        raise InputError(
            f"expected finite numbers of {', '.join(_FLOATS)} in {source}, but {_some(unsound)}: convert or fetch them "
            "again"
        )
    return found


def check_tied(wanted: Sequence[Entry], arrays: Mapping[str, np.ndarray], source: str) -> None:
    """Refuses outputs of a language model that differ from the embedding that config.json ties them to.

    Args:
        wanted: the arrays of the model.
        arrays: from :func:`read_arrays`.
        source: for messages.

    Raises:
        InputError: names both.
    """
    named = {entry.path: entry.name for entry in wanted}
    word = named.get("decoder_embeddings/word/embedding", named.get("embeddings/word/embedding", ""))
    for name in (name for name in _OUTPUTS if name in arrays and name not in named.values() and word in arrays):
        if not np.array_equal(arrays[name], arrays[word]):
            raise InputError(
                f"config.json in {source} ties the outputs to {word}, but the weights hold another {name}: say "
                '"tie_word_embeddings": false there to use them, or drop them from the weights'
            )


def _stored(entry: Entry, arrays: Mapping[str, np.ndarray]) -> np.ndarray | None:
    found = arrays.get(entry.name)
    return found if found is not None or entry.otherwise is None else arrays.get(entry.otherwise)


def _module(path: str) -> str:
    return path.rpartition("/")[0]


def _complaint(missing: list[str], misshaped: list[str], extra: list[str], source: str) -> str:
    parts = [f"the weights in {source} do not fit its config.json"]
    parts += [f"missing: {_some(missing)}"] if missing else []
    parts += [f"of another shape: {_some(misshaped)}"] if misshaped else []
    parts += [f"with no place in the model: {_some(extra)}"] if extra else []
    return "; ".join(parts)


def _some(names: Iterable[str], most: int = 8) -> str:
    listed = list(names)
    return ", ".join(listed[:most]) + (f" and {len(listed) - most} more" if len(listed) > most else "")


def read_tokenizer(directory: Path, config: ModelConfig) -> Any:
    """The directory's tokenizer, or None when it has none, which the log says if it has one that is not read.

    Raises:
        InputError: its files are damaged, or its vocabulary is larger than the model's, so that some ids would have
            no embedding.
    """
    if not _has_vocabulary(directory):
        return None
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")  # it advises to install torch, which is not needed
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # damage surfaces as whatever its reader stumbled over
        raise InputError(
            f"the tokenizer in {directory} cannot be read ({' '.join(str(error).split())[:200]}): fetch it again"
        ) from error
    check_vocabulary(tokenizer, config, directory)
    return tokenizer


def _has_vocabulary(directory: Path) -> bool:
    """Whether there is a vocabulary to read; without one, transformers would make a tokenizer that knows no word."""
    if any((directory / name).is_file() for name in _VOCABULARIES):
        return True
    settings = directory / TOKENIZER_CONFIG
    if settings.is_file() and read_json_object(settings).get("tokenizer_class") == _BYTES:
        return True
    held = next((name for name in (*_SENTENCEPIECE, TOKENIZER_CONFIG) if (directory / name).is_file()), None)
    if held is not None:
        logger.warning(
            "the model in %s comes without a tokenizer: its tokenizer is only in %s, and what is read is a "
            "tokenizer.json; write one there with AutoTokenizer.from_pretrained(...).save_pretrained(...) of "
            "transformers, where sentencepiece is installed",
            directory,
            held,
        )
    return False


def check_vocabulary(tokenizer: Any, config: ModelConfig, source: Path) -> None:
    """Refuses a tokenizer some of whose ids would have no embedding: too many, or numbered with gaps."""
    if not isinstance(config, TextConfig):
        return
    if len(tokenizer) > config.vocab_size:
        raise InputError(
            f"the tokenizer in {source} has {len(tokenizer)} tokens but the model embeds {config.vocab_size}: "
            "they do not belong together"
        )
    token, largest = max(tokenizer.get_vocab().items(), key=lambda pair: pair[1], default=("", -1))
    if largest >= config.vocab_size:
        raise InputError(
            f"the tokenizer in {source} gives {token!r} the id {largest} but the model embeds the ids from 0 to "
            f"{config.vocab_size - 1}: they do not belong together"
        )


def write(
    directory: str | os.PathLike[str], config: ModelConfig, arrays: Mapping[str, np.ndarray], tokenizer: Any
) -> None:
    """Writes ``config.json``, ``model.safetensors`` and the tokenizer's files, all or nothing.

    Args:
        directory: a new or empty directory.
        config: written to ``config.json``.
        arrays: every array by its path here.
        tokenizer: from Hugging Face, or None.
    """
    from safetensors.numpy import save_file

    tensors = write_arrays(entries(config), arrays, file_prefix(config))
    # Batch norms there count batches too; nothing reads the count, but a file without it is incomplete to them.
    counted = [name.removesuffix("running_var") for name in tensors if name.endswith(".running_var")]
    tensors |= {f"{name}num_batches_tracked": np.zeros((), np.int64) for name in counted}
    with atomic_directory(directory) as temporary:
        save_file(tensors, temporary / WEIGHTS, metadata={"format": "pt"})
        text = json.dumps(config_to_hf(FAMILIES[config.family], config), indent=2, sort_keys=True, ensure_ascii=False)
        (temporary / "config.json").write_text(text + "\n", encoding="utf-8")
        if isinstance(config, ImageConfig):
            text = json.dumps(preprocessing_to_hf(config), indent=2, sort_keys=True)
            (temporary / PREPROCESSOR).write_text(text + "\n", encoding="utf-8")
        if tokenizer is not None:
            tokenizer.save_pretrained(temporary)
