;; A policy that is well when it is tried out (before there are requests it is asked
;; about request 0, which is made up) and traps for every real one.
(component
  ;; The contract's types, as far as this component's hooks name them.
  (import "aio:policy/types@0.1.0" (instance $types
    (type $drafter-is (enum "none" "lookup" "model" "lookup-then-model"))
    (export "drafter" (type $drafter (eq $drafter-is)))
    (type $draft-is (record (field "drafter" $drafter) (field "length" u32) (field "ngram-min" u32)
      (field "ngram-max" u32) (field "draft-tier" (option u32)) (field "min-confidence" f32)))
    (export "draft" (type $draft (eq $draft-is)))
    (type $plan-is (record (field "tier" u32) (field "draft" $draft) (field "ask-every" u32)
      (field "label" string) (field "reason" string)))
    (export "plan" (type $plan (eq $plan-is)))
    (type $probe-is (record (field "tier" u32) (field "question" string) (field "answers" (list string))))
    (export "probe" (type $probe (eq $probe-is)))
    (type $verdict-is (variant (case "decided" $plan) (case "probe" $probe)))
    (export "verdict" (type $verdict (eq $verdict-is)))
    (type $gear-is (record (field "rows" u32) (field "compiled" bool)
      (field "milliseconds" (option f32)) (field "compile-milliseconds" (option f32))))
    (export "gear" (type $gear (eq $gear-is)))
    (type $tier-facts-is (record (field "gears" (list $gear))))
    (export "tier-facts" (type $tier-facts (eq $tier-facts-is)))
    (type $load-is (record (field "running" u32) (field "queued" u32)))
    (export "load" (type $load (eq $load-is)))
    (type $probe-result-is (record (field "tier" u32) (field "probabilities" (list f32))
      (field "other" f32) (field "entropy" f32) (field "milliseconds" f32)))
    (export "probe-result" (type $probe-result (eq $probe-result-is)))
    (type $request-facts-is (record (field "request" u64) (field "prompt-tokens" (list u32))
      (field "max-tokens" u32) (field "temperature" f32) (field "chat" bool)
      (field "tiers" (list $tier-facts)) (field "load" $load) (field "probes" (list $probe-result))))
    (export "request-facts" (type $request-facts (eq $request-facts-is)))
  ))
  (alias export $types "request-facts" (type $request-facts))
  (alias export $types "verdict" (type $verdict))

  (core module $core
    (memory (export "memory") 1)
    ;; Room for the arguments: handed out upwards and never taken back, except
    ;; that every call starts over.
    (global $next (mut i32) (i32.const 4096))
    (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
      (global.set $next
        (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
      (global.get $next)
      (global.set $next (i32.add (global.get $next) (local.get 3))))
    (data (i32.const 16)
      "\00\00\00\00" ;; decided
      "\00\00\00\00" ;; tier
      "\00\00\00\00" ;; drafter
      "\00\00\00\00" ;; length
      "\01\00\00\00\01\00\00\00" ;; n-gram bounds
      "\00\00\00\00\00\00\00\00" ;; draft tier: none
      "\00\00\00\00" ;; min confidence
      "\00\00\00\00" ;; ask every
      "\00\00\00\00\00\00\00\00" ;; label: where, length
      "\00\00\00\00\00\00\00\00")
    (func (export "plan") (param i64 i32 i32 i32 f32 i32 i32 i32 i32 i32 i32 i32) (result i32)
      (global.set $next (i32.const 4096))
      (if (i64.ne (local.get 0) (i64.const 0)) (then (unreachable)))
      (i32.const 16))
  )
  (core instance $i (instantiate $core))
  (alias core export $i "memory" (core memory $memory))
  (alias core export $i "cabi_realloc" (core func $realloc))
  (alias core export $i "plan" (core func $plan))
  (func (export "plan") (param "facts" $request-facts) (result $verdict)
    (canon lift (core func $plan) (memory $memory) (realloc $realloc)))
)
