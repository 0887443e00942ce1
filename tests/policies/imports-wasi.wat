;; A component built for WASI.
(component
  (import "wasi:cli/environment@0.2.0" (instance
    (export "initial-cwd" (func (result (option string)))))))
