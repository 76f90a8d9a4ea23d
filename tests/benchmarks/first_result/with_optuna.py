import numpy as np
import optuna

optuna.logging.set_verbosity(optuna.logging.WARNING)
rng, n = np.random.default_rng(1), 20_000
signal, background = rng.beta(3, 2, n), rng.beta(1, 3, n)


def significance(trial):
    cut = trial.suggest_float("score", 0.0, 0.95)
    s, b = 200 * (signal > cut).mean(), 20_000 * (background > cut).mean()
    return s / np.sqrt(b + (0.1 * b) ** 2 + 1)


study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=1))
study.optimize(significance, n_trials=100)
print(study.best_params, study.best_value)
