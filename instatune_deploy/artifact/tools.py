"""The programs in an artifact: `verify.py`, which proves it, and `predict.py`, which uses it. Neither needs this package."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from instatune_deploy.artifact.checks import MAX_MANIFEST_BYTES, SCHEMA_VERSION
from instatune_deploy.artifact.graph_files import GRAPH_FILES
from instatune_deploy.devices.plan import package_of
from instatune_deploy.devices.pyz import build_pyz
from instatune_deploy.devices.runs import Run
from instatune_deploy.devices.runtimes.modules import MODULES, runtime_module
from instatune_deploy.tasks.images import FORMATS

VERIFY, VERIFY_MODULES, PREDICT = "verify.py", "verify.pyz", "predict.py"
EDGE = "instatune_deploy.artifact.edge"
VERIFY_TEXT = '''\
"""Is this artifact what it says? Needs Python 3.10, NumPy and {package}.

    python verify.py [--json]

Checks every file's checksum, the outputs on the samples, and the budget, measured anew. Exit code 0: all is well; 2: it
cannot be checked here; 4: it is not what it says; 5: this host is too busy to say. What it does is in verify.pyz, a zip of
Python sources.
"""

import os
import sys

if sys.version_info < (3, 10):
    sys.stderr.write("Error: Python 3.10 or newer is needed; this is " + sys.version.split()[0] + "\\n")
    sys.exit(2)

folder = os.path.dirname(os.path.abspath(__file__))
# no file beside this one is imported, whatever it is called
own = (os.path.realpath(folder), os.path.dirname(os.path.realpath(__file__)))
sys.path[:] = [path for path in sys.path if os.path.realpath(path) not in own]

import hashlib
import json

modules, manifest = os.path.join(folder, "verify.pyz"), os.path.join(folder, "manifest.json")


def stop(code, text):
    if "--json" in sys.argv:
        print(json.dumps({{"folder": folder, "ok": False, "exit_code": code, "error": text, "checks": []}}))
    sys.stderr.write("Error: " + text + "\\n")
    sys.exit(code)


# no line of verify.pyz is run before it is proved
try:
    size = os.path.getsize(manifest)
    if size > {largest}:
        stop(4, manifest + ": not the manifest of an artifact (it has " + str(size) + " bytes, and none is so large)")
    with open(manifest, "rb") as stream:
        listed = json.loads(stream.read().decode("utf-8"))["files"]["verify.pyz"]["sha256"]
except OSError:
    stop(2, folder + ": not an artifact (it has no file manifest.json)")
except (ValueError, RecursionError):
    stop(4, manifest + ": damaged: it is no JSON")
except (KeyError, TypeError):
    stop(4, manifest + ": not the manifest of an artifact (it does not list verify.pyz)")
try:
    with open(modules, "rb") as stream:
        unchanged = hashlib.sha256(stream.read()).hexdigest() == listed
except OSError:
    unchanged = False
if not unchanged:
    stop(4, modules + ": missing, or changed")

sys.path.insert(0, modules)
try:
    from instatune_deploy.artifact.edge import main
except ImportError as error:
    name = (error.name or "numpy").split(".")[0]
    missing = isinstance(error, ModuleNotFoundError)
    stop(2, name + (" is not installed" if missing else " cannot be imported") + ": pip install " + name)

sys.exit(main(folder))
'''
PROGRAM = '''\
"""{asks} Needs Python 3.8, NumPy, {library} and {package}.

    python predict.py {example}

Exit code 2: it cannot be used here; 4: a file is not what it was when the artifact was made.
"""

import hashlib
import json
import sys
from pathlib import Path

folder = Path(__file__).resolve().parent


def stop(code, text):
    """One line and an exit code; an ImportError for whoever imports this."""
    if __name__ != "__main__":
        raise ImportError(text)
    sys.stderr.write(f"Error: {{text}}\\n")
    sys.exit(code)


try:
    import numpy as np
    import {runtime}
    {imports}
except ImportError as error:
    stop(2, f"{{error.name or 'numpy'}} cannot be imported: pip install numpy {library} {package}")

try:
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    seal, newer = manifest.pop("sha256"), manifest["schema_version"] > {schema}
    listed = {{name: entry["sha256"] for name, entry in manifest["files"].items()}}
except OSError:
    stop(2, f"{{folder}}: not an artifact (it has no file manifest.json)")
except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
    stop(4, "manifest.json: damaged")
if newer:
    stop(4, "manifest.json: of a newer schema than this program reads ({schema})")
if hashlib.sha256(json.dumps(manifest, sort_keys=True, separators=(",", ":")).encode()).hexdigest() != seal:
    stop(4, "manifest.json: damaged or edited: its content does not match its own checksum")


def proved(name):
    """The path of a file that is still what manifest.json says."""
    found = hashlib.sha256()
    try:
        with open(folder / name, "rb") as stream:
            while block := stream.read(1 << 20):
                found.update(block)
    except OSError:
        stop(4, f"{{name}}: missing, or cannot be read")
    if found.hexdigest() != listed.get(name):
        stop(4, f"{{name}}: its content was changed: the checksum (SHA-256) is not the manifest's")
    return str(folder / name)


steps = json.loads(Path(proved("preprocessing.json")).read_text(encoding="utf-8"))
graph = [proved(name) for name in {graphs!r}][0]
proved("predict.py")
{inputs}

{load}

def predict({rows}, run):
    """Probabilities, ({rows}, labels). run: of `load(graph)`"""
    logits, batch = [], steps["batch_size"]
    for start in range(0, len({rows}), batch):
        part = {rows}[start : start + batch]
        whole = part + part[-1:] * (batch - len(part))  # the graph has one shape
        logits.append(run(inputs(whole))[: len(part)])
    raised = np.exp(np.concatenate(logits) - np.concatenate(logits).max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.stderr.write(__doc__)
        sys.exit(2)
    try:
        shares = predict({given}, load(graph))
    except Exception as error:
        stop(2, " ".join(str(error).split()) or repr(error))
    for said, row in zip(sys.argv[1:], shares):
        print(f"{{steps['labels'][row.argmax()]}} {{row.max():.1%}}\\t{{said}}")
'''
TEXT = '''\
tokenizer = Tokenizer.from_file(proved(steps["tokenizer"]))
tokenizer.enable_truncation(steps["length"])
tokenizer.enable_padding(length=steps["length"], **steps["padding"])


def inputs(texts):
    """Tokens as the graph takes them."""
    tokens = tokenizer.encode_batch(texts)
    return {name: np.array([getattr(row, kind) for row in tokens]) for name, kind in steps["inputs"].items()}
'''
OPENED = '''

def opened(path):
    """RGB, 8 bits, upright; ValueError for what is no image."""
    try:
        image = Image.open(path, formats=FORMATS)  # none of which starts another program
        image.load()
        try:
            image = ImageOps.exif_transpose(image)
        except Exception:  # the pixels are there; broken data beside them turn nothing
            pass
        if image.mode.startswith("I"):  # 16 bits
            values = np.asarray(image)
            if values.min() < 0 or values.max() > 65535:
                raise ValueError("grey values beyond 16 bits")
            image = Image.fromarray((values / 257).round().astype(np.uint8))
        if image.mode == "F":
            raise ValueError("pixels that are fractions")
        return image.convert("RGB")
    except Exception as error:  # Pillow has many kinds of them
        raise ValueError(f"{path}: not an image that can be opened: {error}") from error
'''.replace("=FORMATS", f"={FORMATS!r}")
PIXELS = '''

def pixels(image):
    """(3, height, width) float32."""
    resize, crop = steps["resize"], steps["crop"]
    if resize is not None:
        width, height = image.size
        if isinstance(resize, int):  # of the shorter edge
            short, long = sorted(image.size)
            other = int(resize * long / short)
            resize = (resize, other) if height <= width else (other, resize)
        image = image.resize((resize[1], resize[0]), Image.Resampling[steps["resample"].upper()])
    if crop is not None:  # black where the image is smaller
        top, left = (image.height - crop[0]) // 2, (image.width - crop[1]) // 2
        image = image.crop((left, top, left + crop[1], top + crop[0]))
    values = (np.asarray(image) * np.float32(steps["rescale"]) - np.float32(steps["mean"])) / np.float32(steps["std"])
    return values.transpose(2, 0, 1).astype(np.float32)


def inputs(images):
    """Pixels as the graph takes them."""
    return {steps["inputs"][0]: np.stack([pixels(image) for image in images])}
'''
WHOLE = '''

def whole(image):
    """(height, width, 3) uint8; all else is in the graph."""
    size = steps["resize"][1], steps["resize"][0]
    if image.size != size:
        image = image.resize(size, Image.Resampling[steps["resample"].upper()])
    return np.asarray(image)


def inputs(images):
    """Images as the graph takes them."""
    return {steps["inputs"][0]: np.stack([whole(image) for image in images])}
'''
OF_IMAGES = {
    "asks": "What does the model see in an image?",
    "library": "Pillow",
    "example": "image.jpg another.png",
    "imports": "from PIL import Image, ImageOps",
    "rows": "images",
    "given": "[opened(path) for path in sys.argv[1:]]",
}
PROGRAMS = {
    "text": {
        "asks": "What does the model say of a text?",
        "library": "tokenizers",
        "example": '"A text." "Another one."',
        "imports": "from tokenizers import Tokenizer",
        "inputs": TEXT,
        "rows": "texts",
        "given": "sys.argv[1:]",
    },
    "image": {**OF_IMAGES, "inputs": OPENED + PIXELS},
    "embedded": {**OF_IMAGES, "inputs": OPENED + WHOLE},
}
"""What stands in `PROGRAM`, by the kind of the inputs; ``embedded`` are images whose preprocessing is in the graph."""


def write_verify(folder: Path, run: Run) -> None:
    """Write verify.py and the modules that it runs."""
    (folder / VERIFY).write_text(VERIFY_TEXT.format(package=package_of(run), largest=MAX_MANIFEST_BYTES), encoding="utf-8")
    (folder / VERIFY_MODULES).write_bytes(build_pyz(EDGE, [MODULES[run.runtime]]))


def write_predict(folder: Path, run: Run, described: Mapping[str, Any]) -> None:
    """Write predict.py, which runs the graph as it was measured. described: the inputs, as preprocessing.json has it"""
    load = runtime_module(run.runtime).loading_source(run.precision, run.threads, run.provider)
    text = PROGRAM.format(
        package=package_of(run),
        runtime=run.runtime,
        load=load,
        graphs=GRAPH_FILES[run.runtime].names,
        schema=SCHEMA_VERSION,
        **PROGRAMS["embedded" if "embedded" in described else described["kind"]],
    )
    (folder / PREDICT).write_text(text, encoding="utf-8")
