"""gato-hep's bins of the events of a file, by its published recipe: run by the Python of an environment that has it.

`python learned_bins_peer.py EVENTS.npz BINS SEED EPOCHS OUTPUT.npz`. The recipe is that of its example of three
classes: temperature 1 to 0.05 and learning rate 0.05 to 0.001 along half a cosine, RMSprop, no penalty.
"""

import os
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import numpy as np
import tensorflow as tf
from gatohep.models import gato_gmm_model
from gatohep.utils import LearningRateScheduler, TemperatureScheduler

SIGNALS = ["signal_1", "signal_2"]


def learned(events, bins, seed, epochs):
    """The model after so many epochs on all events of {sample: (features, weight)}."""
    tf.random.set_seed(seed)
    given = {
        name: {
            "NN_output": tf.constant(features, tf.float32),
            "weight": tf.constant(np.full(len(features), weight), tf.float32),
        }
        for name, (features, weight) in events.items()
    }
    model = gato_gmm_model(n_cats=bins, dim=2, temperature=tf.Variable(1.0, trainable=False))
    optimizer = tf.keras.optimizers.RMSprop(0.05)
    rate = LearningRateScheduler(
        optimizer, lr_initial=0.05, lr_final=0.001, total_epochs=epochs, mode="cosine"
    )
    temperature = TemperatureScheduler(model, t_initial=1.0, t_final=0.05, total_epochs=epochs, mode="cosine")

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            found = model.get_differentiable_significance(given, signal_labels=SIGNALS)
            loss = -tf.sqrt(found["signal_1"] * found["signal_2"])
        optimizer.apply_gradients(
            zip(tape.gradient(loss, model.trainable_variables), model.trainable_variables, strict=True)
        )
        return loss

    for epoch in range(epochs):
        rate.update(epoch)
        temperature.update(epoch)
        step()
    return model


def main():
    source, bins, seed, epochs, target = sys.argv[1:]
    stored = np.load(source)
    names = [name.removeprefix("train_") for name in stored if name.startswith("train_")]
    train = {name: (stored[f"train_{name}"], float(stored[f"weight_{name}"])) for name in names}
    started = np.array([time.perf_counter(), time.process_time()])
    model = learned(train, int(bins), int(seed), int(epochs))
    seconds = np.array([time.perf_counter(), time.process_time()]) - started
    places = {
        name: model.get_bin_indices(stored[name].astype(np.float32)).numpy()
        for name in stored
        if name.startswith("test_")
    }
    np.savez(target, seconds=seconds, **places)


if __name__ == "__main__":
    main()
