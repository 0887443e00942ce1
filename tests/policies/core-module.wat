;; A core module that nobody made a component of.
(module
  (func (export "plan")))
