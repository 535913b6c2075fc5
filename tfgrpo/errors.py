"""Errors that end the current command.

    TfgrpoError
    ├── ConfigError    the user's input cannot be used             (exit 2)
    ├── BackendError   a model or endpoint cannot be used at all   (exit 1)
    │   └── UntakenError   it turns down a sampling value
    ├── GradingError   a verifier itself is broken                 (exit 1)
    ├── RunError       a run directory is unusable or contradicts  (exit 1)
    └── BudgetStop     a declared budget is spent; partial result saved (exit 3)

Every message is a sentence for the user that ends with what to do. A single reply that fails is no
error but a `tfgrpo.types.Failure`.
"""


class TfgrpoError(Exception):
    exit_code = 1


class ConfigError(TfgrpoError):
    exit_code = 2


class BackendError(TfgrpoError):
    pass


class UntakenError(BackendError):
    pass


class GradingError(TfgrpoError):
    pass


class RunError(TfgrpoError):
    pass


class BudgetStop(TfgrpoError):
    exit_code = 3
