"""Report 1's protocol as its authors would write it: Keras on TensorFlow, and ART (Nicolae et al., 1807.01069).

python tensorflow_art.py --data FOLDER --out FOLDER [--version L|P] [--seed 42]

Runs in an environment of its own (tensorflow.txt). TensorFlow has its default threads. ART's classes, their order and
their arguments are those of the report's listings, KerasClassifier among them.
"""

from __future__ import annotations

from importlib import metadata

import keras
import numpy as np
import protocol
import tensorflow as tf
from art.attacks.evasion import FastGradientMethod
from art.defences.trainer import AdversarialTrainer
from art.estimators.classification import KerasClassifier


def build() -> keras.Model:
    """The report's network, compiled."""
    model = keras.Sequential(
        [
            keras.layers.Input((28, 28, 1)),
            keras.layers.Conv2D(32, 3, activation="relu"),
            keras.layers.MaxPooling2D(2),
            keras.layers.Conv2D(64, 3, activation="relu"),
            keras.layers.MaxPooling2D(2),
            keras.layers.Flatten(),
            keras.layers.Dense(128, activation="relu"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    optimizer = keras.optimizers.Adam(protocol.LEARNING_RATE)
    model.compile(optimizer=optimizer, loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def attack_on(model: keras.Model) -> tuple[KerasClassifier, FastGradientMethod]:
    """The network as ART sees it, and the attack bound to it."""
    classifier = KerasClassifier(model=model, clip_values=(0, 1), use_logits=False)
    return classifier, FastGradientMethod(estimator=classifier, eps=protocol.EPS, eps_step=0.1)


def measure(results: protocol.Results, name: str, model: keras.Model, x: np.ndarray, y: np.ndarray) -> None:
    """Loss and accuracy, and one prediction of the whole set, as the report times it."""
    with results.stage(f"evaluate {name}"):
        loss, _ = model.evaluate(x, y, verbose=0)
        results.share(name, model.predict(x, verbose=0).argmax(axis=1), y, loss)


def main() -> None:
    """Baseline, FGSM, adversarial training, poisoning."""
    arguments = protocol.parse(__doc__)
    arguments.out.mkdir(parents=True, exist_ok=True)
    results = protocol.Results(arguments)
    keras.utils.set_random_seed(arguments.seed)
    with results.stage("load"):
        x, y = protocol.load(arguments.data, "train", arguments.images)
        x_test, y_test = protocol.load(arguments.data, "t10k", arguments.images)
        x, x_test = x[..., None], x_test[..., None]
    fit = {"batch_size": protocol.BATCH, "epochs": arguments.epochs, "verbose": 0}

    model = build()
    with results.stage("train"):
        model.fit(x, y, validation_split=protocol.VALIDATION_SHARE, **fit)
        model.save(arguments.out / "baseline_cnn.keras")
    measure(results, "clean", model, x_test, y_test)
    _, attack = attack_on(model)
    with results.stage("fgsm"):
        examples = attack.generate(x=x_test)
    measure(results, "fgsm", model, examples, y_test)

    with results.stage("defend"):
        defended = keras.models.load_model(arguments.out / "baseline_cnn.keras")  # with its Adam state
        own_classifier, own_attack = attack_on(defended)
        trainer = AdversarialTrainer(
            classifier=own_classifier,
            attacks=own_attack if arguments.version == "L" else attack,
            ratio=protocol.RATIO,
        )
        trainer.fit(x=x, y=y, nb_epochs=arguments.defence_epochs, batch_size=protocol.BATCH)
        defended.save(arguments.out / "adv_trained_cnn.keras")
    measure(results, "defended clean", defended, x_test, y_test)
    if arguments.version == "L":
        with results.stage("fgsm"):
            examples = own_attack.generate(x=x_test)
    measure(results, "defended fgsm", defended, examples, y_test)

    with results.stage("train poisoned"):
        x_poisoned = protocol.poisoned(x[..., 0], y)[..., None]
        victim = build()
        victim.fit(x_poisoned, y, validation_split=protocol.VALIDATION_SHARE, **fit)
        victim.save(arguments.out / "poisoned_cnn.keras")
    measure(results, "poisoned clean", victim, x_test, y_test)
    sevens = x_test[y_test == protocol.TARGET_LABEL]
    labels = np.full(len(sevens), protocol.TARGET_LABEL)
    measure(results, "poisoned sevens", victim, sevens, labels)
    measure(results, "poisoned sevens patched", victim, protocol.patched(sevens[..., 0])[..., None], labels)

    names = ("tensorflow-cpu", "keras", "adversarial-robustness-toolbox", "numpy")
    threads = [tf.config.threading.get_intra_op_parallelism_threads(), "0 means TensorFlow's default"]
    results.write({name: metadata.version(name) for name in names}, threads=threads)


if __name__ == "__main__":
    main()
