"""aevb: Auto-Encoding Variational Bayes, for people who have data.

Nothing is imported before it is used, so that ``import aevb`` is instant.
"""

import lazy_loader as lazy

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy.attach(
    __name__,
    submodules=[
        *("evaluation", "explorer", "inference", "models", "plotting", "predict"),
        *("probability", "report", "serve", "share"),
    ],
    submod_attrs={
        "aggregate": ["SamplerComparison"],
        "algorithm": ["train"],
        "comparison": ["Comparison"],
        "data": ["datasets", "sources"],
        "diagnosis": ["Diagnosis", "Finding"],
        "errors": ["FitWarning", "ModelFileError", "TrainingDiverged"],
        "evaluation": [
            *("GradientVariance", "elbo", "gradient_variance", "log_likelihood"),
            "reciprocal_importance_sampling",
        ],
        "inference": [
            *("Bayesian", "FullVB", "MonteCarloEM", "Objective", "SGVB", "WakeSleep"),
            *("Epoch", "Run", "TrainResult"),
            *("Estimate", "posterior_predictive", "sgvb"),
        ],
        "models": [
            *("AutoEncoder", "Bernoulli", "Frozen", "Gaussian", "LatentVariableModel", "MLP"),
            *("Given", "Likelihood", "given"),
            *("architectures", "likelihoods", "posteriors", "priors"),
        ],
        "probability": [
            *("Batched", "ExpRelaxedOneHotCategorical", "GrayBernoulli", "Joint", "kl_divergence"),
        ],
        "outliers": ["OutlierDetector"],
        "partitions": ["Predictor"],
        "schema": ["Schema"],
        "vae": ["VAE"],
    },
)
