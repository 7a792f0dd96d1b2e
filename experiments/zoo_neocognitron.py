"""The Neocognitron (Fukushima 1980) with its S-cells as they start, and a linear read-out.

Gradients reach the read-out alone. Cells that have not organised themselves answer weakly, hence
the large rate; how they organise themselves is `cnnjax.models.neocognitron.self_organise`, and what
that gains is in the README.

Two passes over 10,000 images of Fashion-MNIST, the budget of the whole zoo; the results are in the
README's table.

    cnnjax train experiments/zoo_neocognitron.py
"""

model = {"name": "neocognitron"}
dataset = {"name": "fashion_mnist_12k", "batch_size": 64}
schedule = {
    "epochs": 2,
    "optimizer": {"name": "adamw"},
    "learning_rate": {"name": "cosine", "value": 5.0, "warmup": 0.05},
    "seed": 0,
}
