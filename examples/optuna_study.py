"""A define-by-run study of Optuna of your own, whose trials are proposed by NSGA-II of raynas."""

import optuna

import raynas


def objective(trial: optuna.Trial) -> tuple[float, float]:
    """Stand for a training: its accuracy, and what it costs."""
    act = trial.suggest_categorical("act", ["relu", "gelu"])
    width, depth = trial.suggest_int("width", 16, 64, step=16), trial.suggest_int("depth", 1, 4)
    accuracy = 1 - 1 / (1 + depth * width / 32) + 0.02 * (act == "gelu")
    return accuracy, width**2 * depth / 1e6


optuna.logging.set_verbosity(optuna.logging.WARNING)
sampler = raynas.optuna_sampler("nsga2", seed=0, population=8)
study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
study.optimize(objective, n_trials=25)
for trial in sorted(study.best_trials, key=lambda trial: -trial.values[0])[:3]:
    print({"accuracy": round(trial.values[0], 3), "m_params": trial.values[1], **trial.params})
