"""Trains a classifier of handwritten digits on the data that scikit-learn ships.

Runs under hpcrun and, unchanged, by hand: `python train.py --epochs 5`.
"""

import argparse
from pathlib import Path

import joblib
import matplotlib
import numpy as np
from sklearn.datasets import load_digits
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler

from hpcrun import Run

matplotlib.use("Agg")
import matplotlib.pyplot as plt


def main() -> None:
    """Trains, logs each epoch, and leaves the model and a plot in outputs/."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    options = parser.parse_args()

    run = Run.get_context()
    images, labels = load_digits(return_X_y=True)
    train_x, test_x, train_y, test_y = train_test_split(
        images, labels, test_size=0.25, random_state=0, stratify=labels
    )
    scaler = StandardScaler().fit(train_x)
    train_x, test_x = scaler.transform(train_x), scaler.transform(test_x)

    model = MLPClassifier(
        (options.hidden,), learning_rate_init=options.learning_rate, random_state=0
    )
    classes = np.unique(labels)
    losses, accuracies = [], []
    for epoch in range(options.epochs):
        order = np.random.default_rng(epoch).permutation(len(train_x))
        for batch in np.array_split(order, len(order) // 100):
            model.partial_fit(train_x[batch], train_y[batch], classes=classes)
        losses.append(log_loss(test_y, model.predict_proba(test_x)))
        accuracies.append(model.score(test_x, test_y))
        run.log("loss", losses[-1], step=epoch)
        run.log("accuracy", accuracies[-1], step=epoch)
        print(f"epoch {epoch:2d}  loss {losses[-1]:.4f}  accuracy {accuracies[-1]:.4f}")

    outputs = Path("outputs")
    outputs.mkdir(exist_ok=True)
    joblib.dump((scaler, model), outputs / "model.joblib")
    figure, axes = plt.subplots()
    axes.plot(losses, label="test loss")
    axes.plot(accuracies, label="test accuracy")
    axes.set_xlabel("epoch")
    axes.legend()
    figure.savefig(outputs / "curves.png")


if __name__ == "__main__":
    main()
