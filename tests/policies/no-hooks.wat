;; A component that exports nothing a host could ask.
(component)
