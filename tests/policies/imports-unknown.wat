;; A component built against a contract that this host does not speak.
(component
  (import "aio:policy/host@9.0.0" (instance
    (export "now" (func (result u64))))))
