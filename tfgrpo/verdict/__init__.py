"""From evaluated policies to what may be said of them: arms, matching, judgement, report."""
