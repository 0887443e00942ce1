;; A component whose `plan` is not the contract's.
(component
  (core module $core (func (export "plan") (result i32) (i32.const 0)))
  (core instance $i (instantiate $core))
  (alias core export $i "plan" (core func $plan))
  (func (export "plan") (result u32) (canon lift (core func $plan))))
