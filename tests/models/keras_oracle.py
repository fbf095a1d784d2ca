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
    adapted = layers.Normalization()
    adapted.adapt(np.random.default_rng(1).normal(3, 2, (50, 4, 4, 3)))
    prepared = [
        layers.RandomFlip("horizontal"),
        layers.RandomRotation(0.1),
        layers.RandomZoom(0.1),
        layers.RandomTranslation(0.1, 0.1),
        layers.RandomContrast(0.2),
        layers.RandomBrightness(0.2),
        layers.Rescaling(1 / 127.5, offset=-1),
        layers.Rescaling([0.9, 1.0, 1.1], offset=[0.1, -0.2, 0.3]),
        adapted,
        layers.Normalization(mean=[0.1, 0.2, 0.3], variance=[0.5, 2.0, 1.0]),
        layers.Identity(),
        layers.GaussianNoise(0.3),
        layers.ZeroPadding2D(((1, 2), (0, 3))),
        layers.Conv2D(6, 3, activation="leaky_relu"),
        layers.SpatialDropout2D(0.3),
        layers.LeakyReLU(0.3),
        layers.ReLU(max_value=6, negative_slope=0.1),
        layers.Conv2D(6, 9, strides=9, activation="relu6"),
        layers.GlobalMaxPooling2D(),
        layers.ActivityRegularization(l1=0.1),
        layers.Dense(4),
    ]
    activations = [
        layers.Flatten(),
        layers.Dense(8, activation="elu"),
        layers.ELU(0.7),
        layers.Reshape((2, 2, -1)),
        layers.Activation("gelu"),
        layers.Conv2D(4, 2, activation="tanh"),
        layers.Reshape((-1,)),
        layers.GaussianDropout(0.2),
        layers.Dense(6, activation="silu"),
        layers.AlphaDropout(0.2),
        layers.Dense(6, activation="softplus"),
        layers.Dense(6, activation="sigmoid"),
        layers.Dense(4, activation="sigmoid"),
    ]
    flat_input = [layers.Reshape((6, 4, 2)), layers.Conv2D(3, 3), layers.Flatten(), layers.Dense(3), layers.Softmax()]
    no_channel = [layers.Rescaling(1 / 255), layers.Reshape((9, 8, 1)), layers.Conv2D(3, 3), layers.Flatten()]
    binary = [layers.Flatten(), layers.Dense(4, activation="relu"), layers.Dense(1, activation="sigmoid")]
    return {
        "own-flat": Sequential([Input((21, 17, 3)), *flat]),
        "own-pooled": Sequential([Input((13, 14, 2)), *pooled]),
        "own-report1": Sequential([Input((28, 28, 1)), *report_1]),
        "own-prepared": Sequential([Input((12, 11, 3)), *prepared]),
        "own-activations": Sequential([Input((6, 5, 1)), *activations]),
        "own-flat-input": Sequential([Input((48,)), *flat_input]),
        "own-no-channel": Sequential([Input((9, 8)), *no_channel, layers.Dense(3)]),
        "own-binary": Sequential([Input((5, 4, 1)), *binary]),
    }


def functional_model() -> Any:
    """Two branches: no Sequential, so that the file is refused and a factory is the way."""
    from keras import Input, Model, layers

    x = Input((8, 8, 1))
    left, right = layers.Conv2D(3, 3, activation="relu")(x), layers.Conv2D(3, 3, activation="tanh")(x)
    both = layers.BatchNormalization()(layers.Concatenate()([left, right]))
    return Model(x, layers.Dense(3, activation="softmax")(layers.GlobalAveragePooling2D()(both)))


def filled(model: Any, random: np.random.Generator) -> Any:
    """Weights that no default hides: spread, and positive where a variance is."""
    for layer in model.layers:
        if type(layer).__name__ == "Normalization":
            continue  # adapted to data
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
    filled(functional_model(), random).save(folder / "functional.keras")
    answers: dict[str, Array] = {}
    for name, model in models.items():
        scale = 255 if name in ("own-prepared", "own-no-channel") else 1
        answers[f"{name}.x"] = scale * random.random((7, *model.input_shape[1:])).astype(np.float32)
        answers[f"{name}.y"] = model.predict(answers[f"{name}.x"], verbose=0)
    np.savez(folder / "answers.npz", **answers)  # type: ignore[arg-type]  # the stubs take `allow_pickle` for any name


if __name__ == "__main__":
    main(Path(sys.argv[1]))
