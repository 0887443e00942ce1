;; A policy without `plan`. Its `rounds` always answers with four decisions: lookup of
;; 10,000 tokens for request 1, keep for request 1 again, a move for request 77, and a
;; move to tier 9 for request 2.
(component
  ;; The contract's types, as far as this component's hooks name them.
  (import "aio:policy/types@0.1.0" (instance $types
    (type $drafter-is (enum "none" "lookup" "model" "lookup-then-model"))
    (export "drafter" (type $drafter (eq $drafter-is)))
    (type $draft-is (record (field "drafter" $drafter) (field "length" u32) (field "ngram-min" u32)
      (field "ngram-max" u32) (field "draft-tier" (option u32)) (field "min-confidence" f32)))
    (export "draft" (type $draft (eq $draft-is)))
    (type $gear-is (record (field "rows" u32) (field "compiled" bool)
      (field "milliseconds" (option f32)) (field "compile-milliseconds" (option f32))))
    (export "gear" (type $gear (eq $gear-is)))
    (type $tier-facts-is (record (field "gears" (list $gear))))
    (export "tier-facts" (type $tier-facts (eq $tier-facts-is)))
    (type $load-is (record (field "running" u32) (field "queued" u32)))
    (export "load" (type $load (eq $load-is)))
    (type $acceptance-is (record (field "tier" u32) (field "drafter" $drafter)
      (field "by-position" (list f32)) (field "rounds" u64)))
    (export "acceptance" (type $acceptance (eq $acceptance-is)))
    (type $round-context-is (record (field "tiers" (list $tier-facts))
      (field "acceptance" (list $acceptance)) (field "load" $load)))
    (export "round-context" (type $round-context (eq $round-context-is)))
    (type $round-facts-is (record (field "request" u64) (field "tier" u32) (field "round" u32)
      (field "prompt-tokens" u32) (field "committed" u32) (field "remaining" u32)
      (field "draft" $draft) (field "recent-rounds" u32) (field "recent-drafted" u32)
      (field "recent-accepted" u32) (field "lookup-match" u32)))
    (export "round-facts" (type $round-facts (eq $round-facts-is)))
    (type $action-is (variant (case "keep") (case "draft" $draft) (case "move-to" u32)))
    (export "action" (type $action (eq $action-is)))
    (type $round-decision-is (record (field "request" u64) (field "action" $action) (field "reason" string)))
    (export "round-decision" (type $round-decision (eq $round-decision-is)))
  ))
  (alias export $types "round-context" (type $round-context))
  (alias export $types "round-facts" (type $round-facts))
  (alias export $types "round-decision" (type $round-decision))

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
    (data (i32.const 16) "\20\00\00\00\04\00\00\00") ;; list: where, length
    (data (i32.const 32)
      "\01\00\00\00\00\00\00\00" ;; request
      "\01\00\00\00" ;; action
      "\01\00\00\00\10\27\00\00\02\00\00\00\04\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00" ;; draft or tier
      "\00\00\00\00\00\00\00\00" ;; reason: where, length
      "\01\00\00\00\00\00\00\00" ;; request
      "\00\00\00\00" ;; action
      "\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00" ;; draft or tier
      "\00\00\00\00\00\00\00\00" ;; reason: where, length
      "\4d\00\00\00\00\00\00\00" ;; request
      "\02\00\00\00" ;; action
      "\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00" ;; draft or tier
      "\00\00\00\00\00\00\00\00" ;; reason: where, length
      "\02\00\00\00\00\00\00\00" ;; request
      "\02\00\00\00" ;; action
      "\09\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00" ;; draft or tier
      "\00\00\00\00\00\00\00\00")
    (func (export "rounds") (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)
      (global.set $next (i32.const 4096))
      (i32.const 16))
  )
  (core instance $i (instantiate $core))
  (alias core export $i "memory" (core memory $memory))
  (alias core export $i "cabi_realloc" (core func $realloc))
  (alias core export $i "rounds" (core func $rounds))
  (func (export "rounds")
    (param "context" $round-context) (param "requests" (list $round-facts))
    (result (list $round-decision))
    (canon lift (core func $rounds) (memory $memory) (realloc $realloc)))
)
