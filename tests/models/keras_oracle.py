"""Run in a process of its own: what Keras itself answers, on models of its own and on files of ours.

Usage: keras_oracle.py FOLDER. Reads FOLDER/*.keras that are there, writes FOLDER/own-*.keras, and answers of all of
them to FOLDER/answers.npz: `NAME.x` (N, H, W, C) and `NAME.y`, what Keras predicts.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


def own_models() -> dict[str, Any]:
    """Between them every layer of the closed list, with odd sizes, even kernels and unequal strides."""
    from keras import Input, Sequential, layers

    flat = [
        layers.Conv2D(4, (4, 3), strides=(2, 1), padding="same", activation="relu"),
        layers.BatchNormalization(scale=False, epsilon=0.02),
        layers.MaxPooling2D((3, 2), strides=(2, 2), padding="same"),
        layers.Conv2D(5, (2, 3), use_bias=False),
        layers.BatchNormalization(center=False),
        layers.Activation("relu"),
        layers.AveragePooling2D((2, 2)),
        layers.Dropout(0.5),
        layers.Flatten(),
        layers.Dense(9, use_bias=False),
        layers.BatchNormalization(),
        layers.ReLU(),
        layers.Dense(6),
        layers.Softmax(),
    ]
    pooled = [
        layers.AveragePooling2D((3, 3), strides=(1, 1), padding="same"),
        layers.Conv2D(6, 3, strides=2, padding="same", activation="softmax"),
        layers.MaxPooling2D(2, padding="same"),
        layers.GlobalAveragePooling2D(),
        layers.Dense(4),
        layers.Activation("softmax"),
    ]
    report_1 = [
        layers.Conv2D(32, (3, 3), activation="relu"),
        layers.MaxPooling2D((2, 2)),
        layers.Conv2D(64, (3, 3), activation="relu"),
        layers.MaxPooling2D((2, 2)),
        layers.Flatten(),
        layers.Dense(128, activation="relu"),
        layers.Dense(10, activation="softmax"),
    ]
    return {
        "own-flat": Sequential([Input((21, 17, 3)), *flat]),
        "own-pooled": Sequential([Input((13, 14, 2)), *pooled]),
        "own-report1": Sequential([Input((28, 28, 1)), *report_1]),
    }


def filled(model: Any, random: np.random.Generator) -> Any:
    """Weights that no default hides: spread, and positive where a variance is."""
    for layer in model.layers:
        values = [
            random.normal(0.1, 2, weight.shape) / np.sqrt(np.prod(weight.shape[:-1]) + 5) for weight in layer.weights
        ]
        names = [weight.name for weight in layer.weights]
        layer.set_weights(
            [abs(v) + 0.2 if name == "moving_variance" else v for v, name in zip(values, names, strict=True)]
        )
    return model


def main(folder: Path) -> None:
    import keras

    random = np.random.default_rng(0)
    models = {path.stem: keras.saving.load_model(path, compile=False) for path in sorted(folder.glob("*.keras"))}
    for name, model in own_models().items():
        models[name] = filled(model, random)
        models[name].save(folder / f"{name}.keras")
    answers: dict[str, Array] = {}
    for name, model in models.items():
        answers[f"{name}.x"] = random.random((7, *model.input_shape[1:])).astype(np.float32)
        answers[f"{name}.y"] = model.predict(answers[f"{name}.x"], verbose=0)
    np.savez(folder / "answers.npz", **answers)  # type: ignore[arg-type]  # the stubs take `allow_pickle` for any name


if __name__ == "__main__":
    main(Path(sys.argv[1]))
