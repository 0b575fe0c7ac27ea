"""
Solves called from Python: NumPy arrays come in as `Array`s over the same memory, and go out as
Julia arrays that NumPy wraps. Arrays are seen transposed, x first, which is the same memory.
"""
module AdjointGPUPythonCallExt

using AdjointGPU, PythonCall

"The memory of a contiguous NumPy array, in Julia's order, as an `Array`."
function shared(array)
    values = PyArray(array; copy=false)
    dense = Base.size_to_strides(1, size(values)...)
    all((strides(values) .== dense) .| (size(values) .== 1)) ||
        throw(ArgumentError("expected a contiguous array"))
    return unsafe_wrap(Array, pointer(values), size(values))
end
shared(::Nothing) = nothing

function named(arrays)
    arrays = Py(arrays)
    return Dict(Symbol(pyconvert(String, k)) => shared(arrays[k]) for k in arrays)
end

"Dicts, lists, numbers and text as Julia's."
function plain(x::Py)
    pyisinstance(x, pybuiltins.dict) && return Dict{String,Any}(pyconvert(String, k) => plain(x[k]) for k in x)
    pyisinstance(x, pybuiltins.list) && return Any[plain(v) for v in x]
    return pyconvert(Any, x)
end

numbers(x::Py) = Tuple(pyconvert(Vector{Float64}, x))

"The `Simulation` that Python specifies; a user's file is loaded first."
function AdjointGPU.python_simulation(spec)
    spec = Py(spec)
    if pyin("source", spec)
        AdjointGPU.load((pyconvert(String, spec["source"][k]) for k in ("path", "text"))...)
    end
    return Base.invokelatest(simulation, spec)
end

function simulation(spec)
    grid = Grid(Int.(numbers(spec["grid"]["shape"])), numbers(spec["grid"]["extent"]);
                origin=numbers(spec["grid"]["origin"]))
    model = AdjointGPU.build(pyconvert(String, spec["name"]), grid, plain(spec["table"]))
    T = pyconvert(String, spec["dtype"]) == "float32" ? Float32 : Float64
    return Simulation(model; backend=Symbol(pyconvert(String, spec["backend"])), T)
end

"""
Run a request from Python: `command` is "solve" or "adjoint", `arrays` a dict of NumPy arrays. `poll`
lets Python act on signals between iterations; what it raises ends the solve.
"""
function AdjointGPU.python_run(command, sim, arrays, options, poll)
    arrays, options = Py(arrays), Py(options)
    array(name) = pyin(name, arrays) ? shared(arrays[name]) : nothing
    parameters, initial = named(arrays["parameters"]), array("initial")
    given = (; tolerance=pyconvert(Float64, options["tolerance"]),
             max_iterations=pyconvert(Int, options["max_iterations"]),
             low=pyconvert(Union{Nothing,Float64}, options["low"]), initial,
             check=(_, _) -> (poll(); nothing))
    if command == "solve"
        state, report = solve!(sim, parameters; given...)
        return pydict(; state), told(report)
    end
    gradient, multiplier, report = adjoint!(sim, array("source"); state=array("state"), parameters, given...)
    return pydict(; multiplier, gradient...), told(report)
end

function AdjointGPU.python_residual(sim, parameters, state)
    return AdjointGPU.residual(sim, named(parameters), shared(state))
end

function AdjointGPU.python_vjp(sim, parameters, state, direction)
    ubar, mbar = AdjointGPU.vjp(sim, named(parameters), shared(state), shared(direction))
    return ubar, pydict(string(k) => v for (k, v) in pairs(mbar))
end

"Type and first line of an error, in whichever task it was raised."
function AdjointGPU.python_error(error)
    while true
        error = error isa TaskFailedException ? error.task.result :
                error isa CompositeException ? first(error.exceptions) : break
    end
    return string(nameof(typeof(error))), first(split(sprint(showerror, error), '\n'))
end

AdjointGPU.python_device(backend) = AdjointGPU.device(AdjointGPU.Kernels{Symbol(backend),Float64,2}())

told(report::Report) = pydict(string(k) => (v = getfield(report, k); v isa Symbol ? string(v) : v)
                              for k in fieldnames(Report))

end
